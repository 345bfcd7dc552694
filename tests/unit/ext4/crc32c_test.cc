// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/crc32c.h"

#include <gtest/gtest.h>

#include <vector>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

TEST(Crc32c, IsLibext2fss) {
  std::vector<unsigned char> bytes(100);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 37 + 11);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t length = 0; length + begin <= bytes.size(); ++length)
      ASSERT_EQ(crc32c(0x12345678, bytes.data() + begin, length),
                ext2fs_crc32c_le(0x12345678, bytes.data() + begin, length))
          << begin << ' ' << length;
  }
  // Whole blocks of each size, with and without what is not summed: stretches side by side.
  bytes.resize(65536 + 9);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 37 + i / 251);
  for (std::size_t size = 1024; size <= 65536; size *= 2) {
    for (const std::size_t less : {0, 1, 12, 15, 16, 17}) {
      for (const std::size_t begin : {0, 1, 8})
        ASSERT_EQ(crc32c(77, bytes.data() + begin, size - less),
                  ext2fs_crc32c_le(77, bytes.data() + begin, size - less))
            << begin << ' ' << size << ' ' << less;
    }
  }
  // The check value of the catalogue of CRCs.
  EXPECT_EQ(~crc32c(~0U, "123456789", 9), 0xe3069283U);
}

}  // namespace
}  // namespace fuse4fs::ext4
