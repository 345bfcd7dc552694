// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace fuse4fs {
namespace {

UniqueFd open_null() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesWhatItOwns) {
  int number = -1;
  {
    const UniqueFd fd = open_null();
    ASSERT_TRUE(fd);
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, MovesWithoutClosing) {
  UniqueFd one = open_null();
  const int number = one.get();
  UniqueFd other = std::move(one);
  EXPECT_FALSE(one);  // NOLINT(bugprone-use-after-move): being empty is the promise
  EXPECT_EQ(other.get(), number);
  UniqueFd third = open_null();
  const int closed = third.get();
  third = std::move(other);
  EXPECT_FALSE(is_open(closed));
  EXPECT_TRUE(is_open(number));
}

TEST(UniqueFd, ReleaseGivesAway) {
  UniqueFd fd = open_null();
  const UniqueFd mine(fd.release());
  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(mine.get()));
}

TEST(UniqueFd, ResetKeepsErrno) {
  UniqueFd fd(1 << 20);  // not open: close(2) would set EBADF
  errno = ENOSPC;
  fd.reset();
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_FALSE(fd);
}

}  // namespace
}  // namespace fuse4fs
