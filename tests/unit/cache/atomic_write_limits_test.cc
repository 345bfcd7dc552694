// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/atomic_write_limits.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/unique_fd.h"

namespace fuse4fs::cache {
namespace {

TEST(AtomicWriteLimits, AllowWhatLiesBetweenThem) {
  const AtomicWriteLimits limits{.unit_min = 1024, .unit_max = 4096};
  EXPECT_FALSE(limits.allow(512));
  EXPECT_TRUE(limits.allow(1024));
  EXPECT_TRUE(limits.allow(4096));
  EXPECT_FALSE(limits.allow(8192));
}

TEST(AtomicWriteLimits, NothingIsAllowedWithoutAPromise) {
  EXPECT_FALSE(AtomicWriteLimits().allow(4096));
  EXPECT_FALSE(AtomicWriteLimits().allow(0));
}

// File systems may say something of their files, which is not the device's word.
TEST(AtomicWriteLimits, WhatIsNoBlockDevicePromisesNothing) {
  std::string path = "/tmp/atomic-write-limits-XXXXXX";
  const UniqueFd file(::mkstemp(path.data()));
  ASSERT_TRUE(file);
  ::unlink(path.c_str());
  EXPECT_EQ(atomic_write_limits(file.get()).unit_max, 0U);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(atomic_write_limits(null.get()).unit_max, 0U);
  EXPECT_EQ(atomic_write_limits(-1).unit_max, 0U);
}

}  // namespace
}  // namespace fuse4fs::cache
