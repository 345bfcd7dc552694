// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/keyed_mutex.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <thread>

namespace fuse4fs {
namespace {

using Mutex = KeyedMutex<LockRank::kInode>;
using Higher = Guarded<int, LockRank::kGroup>;

TEST(KeyedMutex, SeveralMayBeHeldInTheOrderOfTheirKeys) {
  Mutex one(1), two(2), three(3);
  const std::lock_guard first(one);
  const std::shared_lock third(three);
  // Trying is not waiting.
  EXPECT_TRUE(two.try_lock());
  two.unlock();
}

TEST(KeyedMutex, ReadersShareAndWritersDoNot) {
  Mutex mutex(1);
  {
    const std::shared_lock mine(mutex);
    std::jthread([&] {
      const std::shared_lock theirs(mutex);
      EXPECT_FALSE(mutex.try_lock());
    }).join();
  }
  const std::lock_guard mine(mutex);
  std::jthread([&] { EXPECT_FALSE(mutex.try_lock()); }).join();
}

TEST(KeyedMutex, AWriterGoesBeforeTheReadersAfterHim) {
  Mutex mutex(1);
  std::atomic<bool> written = false;
  std::shared_lock first(mutex);
  std::jthread writer([&] {
    const std::lock_guard lock(mutex);
    written = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::jthread reader([&] {
    const std::shared_lock lock(mutex);
    EXPECT_TRUE(written);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(written);
  first.unlock();
}

#ifndef NDEBUG
TEST(KeyedMutexDeathTest, StopsWhereTheOrderIsDownward) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Mutex one(1);
        Mutex two(2);
        two.lock();
        one.lock_shared();
      },
      "key 1 taken while key 2 is held");
}

TEST(KeyedMutexDeathTest, StopsAtTheSameOneTwice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Mutex mutex(7);
        mutex.lock_shared();
        mutex.lock_shared();
      },
      "key 7 taken while key 7 is held");
}

TEST(KeyedMutexDeathTest, StopsUnderAHigherRank) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Higher higher{0};
        const auto held = higher.lock();
        Mutex mutex(7);
        mutex.lock();
      },
      "rank 30 taken while rank 35 is held");
}
#endif

}  // namespace
}  // namespace fuse4fs
