// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/crc32c.h"

#include <cstring>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::uint32_t sum, const unsigned char* data,
                                                               std::size_t length) {
  std::uint64_t wide = sum;
  for (; length >= sizeof(std::uint64_t); data += sizeof(std::uint64_t), length -= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, sizeof word);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  sum = static_cast<std::uint32_t>(wide);
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
