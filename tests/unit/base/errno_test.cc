// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/errno.h"

#include <gtest/gtest.h>

#include "base/result.h"

namespace fuse4fs {
namespace {

TEST(Errno, KeepsItsNumberAndHasWords) {
  EXPECT_EQ(Errno(ENOENT).value(), ENOENT);
  EXPECT_EQ(Errno(ENOENT).message(), "No such file or directory");
  EXPECT_EQ(kCorrupted.value(), 117);
  EXPECT_NE(Errno(EIO), Errno(EROFS));
  errno = ENOSPC;
  EXPECT_EQ(Errno::last(), Errno(ENOSPC));
}

Result<int> half_of(int number) {
  if (number % 2 != 0) return fail(EDOM);
  return number / 2;
}

Result<int> quarter_of(int number) {
  ASSIGN_OR_RETURN(const int half, half_of(number));
  RETURN_IF_ERROR(half_of(half));
  return half / 2;
}

TEST(Result, FailuresTravelUpAndValuesGoOn) {
  EXPECT_EQ(*quarter_of(8), 2);
  EXPECT_EQ(quarter_of(3).error(), Errno(EDOM));
  EXPECT_EQ(quarter_of(6).error(), Errno(EDOM));
}

TEST(Result, AFailureCarriesNumberAndWords) {
  const Outcome<int> outcome = fail(Errno(EBUSY), "/dev/sdb1 is in use");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error, Errno(EBUSY));
  EXPECT_EQ(outcome.error().message, "/dev/sdb1 is in use");
}

}  // namespace
}  // namespace fuse4fs
