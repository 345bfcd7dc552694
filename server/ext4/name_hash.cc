// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/name_hash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "server/ext4/ext2.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

// Between the hash that takes characters as signed and the one that does not.
constexpr int kUnsigned = EXT2_HASH_LEGACY_UNSIGNED - EXT2_HASH_LEGACY;
// Ends listings in the kernel: no name may have it.
constexpr std::uint32_t kEnd = 0xfffffffe;

// 32 bytes of a name, or its rest.
using Piece = std::array<std::uint32_t, 8>;
using Sum = std::array<std::uint32_t, 4>;

// Words are filled from their high end. What is missing of one, and whole ones, is the number of bytes that
// were left.
Piece piece_of(std::string_view left) {
  constexpr std::size_t kWord = sizeof(std::uint32_t);
  const auto padding = static_cast<std::uint32_t>(left.size()) * 0x01010101U;
  left = left.substr(0, kWord * Piece().size());
  Piece piece;
  std::size_t word = 0;
  for (; left.size() >= kWord; ++word, left.remove_prefix(kWord)) {
    static_assert(std::endian::native == std::endian::little);
    std::memcpy(&piece[word], left.data(), kWord);
    piece[word] = std::byteswap(piece[word]);
  }
  for (; word < piece.size(); ++word) {
    piece[word] = padding;
    for (const char byte : left) piece[word] = piece[word] << 8 | static_cast<unsigned char>(byte);
    left = {};
  }
  return piece;
}

// A step of MD4 (RFC 1320): the oldest of its four words takes in one of the piece, and is the newest then.
template <unsigned rotation>
std::uint32_t step(std::uint32_t oldest, std::uint32_t mixed, std::uint32_t word) {
  return std::rotl(oldest + mixed + word, rotation);
}

// MD4 with half as many steps in a round.
void half_md4(Sum& sum, const Piece& piece) {
  using Word = std::uint32_t;
  auto [a, b, c, d] = sum;
  const auto four = [&]<unsigned first, unsigned second, unsigned third, unsigned fourth>(
                        std::integer_sequence<unsigned, first, second, third, fourth>, const auto& mix,
                        Word k, Word l, Word m, Word n) {
    a = step<first>(a, mix(b, c, d), k);
    d = step<second>(d, mix(a, b, c), l);
    c = step<third>(c, mix(d, a, b), m);
    b = step<fourth>(b, mix(c, d, a), n);
  };
  const auto choose = [](Word x, Word y, Word z) { return z ^ (x & (y ^ z)); };
  constexpr std::integer_sequence<unsigned, 3, 7, 11, 19> kFirst;
  four(kFirst, choose, piece[0], piece[1], piece[2], piece[3]);
  four(kFirst, choose, piece[4], piece[5], piece[6], piece[7]);
  const auto majority = [](Word x, Word y, Word z) { return ((x & y) | (z & (x ^ y))) + 0x5a827999; };
  constexpr std::integer_sequence<unsigned, 3, 5, 9, 13> kSecond;
  four(kSecond, majority, piece[1], piece[3], piece[5], piece[7]);
  four(kSecond, majority, piece[0], piece[2], piece[4], piece[6]);
  const auto parity = [](Word x, Word y, Word z) { return (x ^ y ^ z) + 0x6ed9eba1; };
  constexpr std::integer_sequence<unsigned, 3, 9, 11, 15> kThird;
  four(kThird, parity, piece[3], piece[7], piece[2], piece[6]);
  four(kThird, parity, piece[1], piece[5], piece[0], piece[4]);
  sum = {sum[0] + a, sum[1] + b, sum[2] + c, sum[3] + d};
}

Sum start_of(const ext2_super_block& super) {
  Sum seed;
  static_assert(sizeof seed == sizeof super.s_hash_seed);
  std::memcpy(seed.data(), super.s_hash_seed, sizeof seed);
  if (seed != Sum{}) return seed;
  return {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
}

bool is_ascii(std::string_view name) {
  return std::ranges::none_of(name, [](char byte) { return (static_cast<unsigned char>(byte) & 0x80) != 0; });
}

}  // namespace

std::optional<std::uint8_t> NameHasher::version() const {
  if (!ext2fs_has_feature_dir_index(volume_.super_pointer())) return std::nullopt;
  const std::uint8_t version = volume_.super().s_def_hash_version;
  if (version > EXT2_HASH_TEA) return std::nullopt;
  return version;
}

NameHash NameHasher::of(std::string_view name, std::uint8_t version) const {
  const auto& super = volume_.super();
  // Without either flag, e2fsck takes characters as signed; the kernel sets a flag when it mounts.
  const int offset = (super.s_flags & EXT2_FLAGS_UNSIGNED_HASH) != 0 ? kUnsigned : 0;
  const auto hash = [&](int with, NameHash& into) {
    // It fails for unknown versions only.
    (void)ext2fs_dirhash(with + offset, name.data(), static_cast<int>(name.size()), super.s_hash_seed,
                         &into.major, &into.minor);
  };
  NameHash result;
  // Nearly all names of all volumes; signed characters are libext2fs's.
  if (version == EXT2_HASH_HALF_MD4 && (offset != 0 || is_ascii(name))) {
    Sum sum = start_of(super);
    for (auto left = name; !left.empty(); left.remove_prefix(std::min(left.size(), sizeof(Piece))))
      half_md4(sum, piece_of(left));
    result = {sum[1], sum[2]};
  } else {
    hash(version, result);
  }
  if (version == EXT2_HASH_LEGACY) {
    // It has no minor part, without which two names in hundred thousand would share a listing's position.
    NameHash other;
    hash(EXT2_HASH_HALF_MD4, other);
    result.minor = other.minor;
  }
  result.major &= ~1U;
  if (result.major == kEnd) result.major = kEnd - 2;
  return result;
}

}  // namespace fuse4fs::ext4
