// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/quoted.h"

#include <gtest/gtest.h>

namespace fuse4fs {
namespace {

TEST(Quoted, LeavesPlainTextAlone) {
  EXPECT_EQ(quoted(""), "\"\"");
  EXPECT_EQ(quoted("a file ~!"), "\"a file ~!\"");
}

TEST(Quoted, DisarmsEverythingElse) {
  EXPECT_EQ(quoted("a\nb"), R"("a\x0ab")");
  EXPECT_EQ(quoted("\x1b[2J"), R"("\x1b[2J")");
  EXPECT_EQ(quoted(R"(say "\x")"), R"("say \x22\x5cx\x22")");
  EXPECT_EQ(quoted(std::string_view("\0\x7f\xff", 3)), R"("\x00\x7f\xff")");
}

TEST(Quoted, CutsAfterALongestNameAndSaysSo) {
  const std::string longest(255, 'n');
  EXPECT_EQ(quoted(longest), '"' + longest + '"');
  EXPECT_EQ(quoted(longest + "m"), '"' + longest + "\"…");
}

}  // namespace
}  // namespace fuse4fs
