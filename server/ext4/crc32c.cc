// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/crc32c.h"

#include <array>
#include <cstring>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

#if defined(__x86_64__)

// The instruction gives its result after three cycles, but one can begin in each: three stretches are summed
// side by side, and joined. Three of them are a little less than the smallest block.
constexpr std::size_t kWord = sizeof(std::uint64_t);
constexpr std::size_t kStretch = 42 * kWord;

// What becomes of a sum over kStretch bytes of zeros, by each of its bytes: sums are linear.
using Shift = std::array<std::array<std::uint32_t, 256>, sizeof(std::uint32_t)>;
constexpr Shift make_shift() {
  constexpr std::uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41 mirrored
  std::array<std::uint32_t, 32> of_bit{};
  for (std::size_t bit = 0; bit < of_bit.size(); ++bit) {
    std::uint32_t sum = std::uint32_t{1} << bit;
    for (std::size_t i = 0; i < kStretch * 8; ++i) sum = (sum >> 1) ^ ((sum & 1) != 0 ? kPolynomial : 0);
    of_bit[bit] = sum;
  }
  Shift shift{};
  for (std::size_t byte = 0; byte < shift.size(); ++byte) {
    for (std::size_t value = 0; value < shift[byte].size(); ++value) {
      for (std::size_t bit = 0; bit < 8; ++bit) {
        if ((value >> bit & 1) != 0) shift[byte][value] ^= of_bit[8 * byte + bit];
      }
    }
  }
  return shift;
}
constexpr Shift kShift = make_shift();

std::uint32_t shifted(std::uint32_t sum) {
  return kShift[0][sum & 0xff] ^ kShift[1][sum >> 8 & 0xff] ^ kShift[2][sum >> 16 & 0xff] ^
         kShift[3][sum >> 24];
}

std::uint64_t word_at(const unsigned char* data) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, sizeof word);
  return word;
}

__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::uint32_t sum, const unsigned char* data,
                                                               std::size_t length) {
  std::uint64_t first = sum;
  for (; length >= 3 * kStretch; data += 3 * kStretch, length -= 3 * kStretch) {
    std::uint64_t second = 0, third = 0;
#pragma GCC unroll 6
    for (std::size_t at = 0; at < kStretch; at += kWord) {
      first = __builtin_ia32_crc32di(first, word_at(data + at));
      second = __builtin_ia32_crc32di(second, word_at(data + kStretch + at));
      third = __builtin_ia32_crc32di(third, word_at(data + 2 * kStretch + at));
    }
    second ^= shifted(static_cast<std::uint32_t>(first));
    first = third ^ shifted(static_cast<std::uint32_t>(second));
  }
  for (; length >= kWord; data += kWord, length -= kWord)
    first = __builtin_ia32_crc32di(first, word_at(data));
  sum = static_cast<std::uint32_t>(first);
  for (; length > 0; ++data, --length) sum = __builtin_ia32_crc32qi(sum, *data);
  return sum;
}

#endif

}  // namespace

std::uint32_t crc32c(std::uint32_t sum, const void* data, std::size_t length) {
  const auto* const bytes = static_cast<const unsigned char*>(data);
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  if (has_instruction) return by_instruction(sum, bytes, length);
#endif
  return ext2fs_crc32c_le(sum, bytes, length);
}

}  // namespace fuse4fs::ext4
