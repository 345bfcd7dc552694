// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/checksum.h"

#include <array>

namespace fuse4fs::journal {
namespace {

using Table = std::array<std::uint32_t, 256>;

// crc32c eight bytes at a time: kReflected[n][b] is what byte b does from n bytes further back.
constexpr std::array<Table, 8> make_reflected(std::uint32_t polynomial) {
  std::array<Table, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? polynomial : 0);
    tables[0][byte] = value;
  }
  for (std::size_t distance = 1; distance < tables.size(); ++distance) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[distance - 1][byte];
      tables[distance][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Table make_straight(std::uint32_t polynomial) {
  Table table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte << 24;
    for (int bit = 0; bit < 8; ++bit) value = (value << 1) ^ ((value & 0x80000000U) != 0 ? polynomial : 0);
    table[byte] = value;
  }
  return table;
}

constexpr auto kReflected = make_reflected(0x82F63B78);  // 0x1EDC6F41 mirrored
constexpr auto kStraight = make_straight(0x04C11DB7);

std::uint32_t number(std::byte byte) { return std::to_integer<std::uint32_t>(byte); }

std::uint32_t little32(const std::byte* at) {
  return number(at[0]) | (number(at[1]) << 8) | (number(at[2]) << 16) | (number(at[3]) << 24);
}

}  // namespace

std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> bytes) {
  std::uint32_t value = seed;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    const std::uint32_t low = value ^ little32(bytes.data());
    const std::uint32_t high = little32(bytes.data() + 4);
    value = kReflected[7][low & 0xFF] ^ kReflected[6][(low >> 8) & 0xFF] ^ kReflected[5][(low >> 16) & 0xFF] ^
            kReflected[4][low >> 24] ^ kReflected[3][high & 0xFF] ^ kReflected[2][(high >> 8) & 0xFF] ^
            kReflected[1][(high >> 16) & 0xFF] ^ kReflected[0][high >> 24];
  }
  for (const std::byte byte : bytes) value = (value >> 8) ^ kReflected[0][(value ^ number(byte)) & 0xFF];
  return value;
}

std::uint32_t crc32_be(std::uint32_t seed, std::span<const std::byte> bytes) {
  std::uint32_t value = seed;
  for (const std::byte byte : bytes) value = (value << 8) ^ kStraight[(value >> 24) ^ number(byte)];
  return value;
}

}  // namespace fuse4fs::journal
