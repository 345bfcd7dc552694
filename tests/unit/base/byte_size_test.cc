// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/byte_size.h"

#include <gtest/gtest.h>

namespace fuse4fs {
namespace {

TEST(ByteSize, IsANumberWithOrWithoutAUnit) {
  EXPECT_EQ(parse_byte_size("0"), 0U);
  EXPECT_EQ(parse_byte_size("4096"), 4096U);
  EXPECT_EQ(parse_byte_size("3k"), 3U << 10);
  EXPECT_EQ(parse_byte_size("3M"), 3U << 20);
  EXPECT_EQ(parse_byte_size("5g"), std::uint64_t{5} << 30);
  EXPECT_EQ(parse_byte_size("18446744073709551615"), UINT64_MAX);
}

TEST(ByteSize, IsNothingElse) {
  for (const char* const text : {"", "m", "4mb", "4 m", " 4", "-4", "+4", "4x", "0x10", "4.5m",
                                 "18446744073709551616", "18014398509481984k"})
    EXPECT_FALSE(parse_byte_size(text)) << text;
}

}  // namespace
}  // namespace fuse4fs
