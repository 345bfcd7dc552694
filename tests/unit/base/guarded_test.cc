// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/guarded.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace fuse4fs {
namespace {

TEST(Guarded, LetsOneThreadInAtATime) {
  Guarded<int, LockRank::kBlockCache> count{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&count] {
        for (int j = 0; j < 1000; ++j) {
          auto locked = count.lock();
          *locked = *locked + 1;
        }
      });
    }
  }
  EXPECT_EQ(*count.lock(), 4000);
}

TEST(Guarded, CanBeWaitedOn) {
  Guarded<bool, LockRank::kRange> ready{false};
  std::condition_variable_any changed;
  std::jthread setter([&] {
    *ready.lock() = true;
    changed.notify_one();
  });
  auto locked = ready.lock();
  changed.wait(locked.lock(), [&locked] { return *locked; });
  EXPECT_TRUE(*locked);
}

TEST(Guarded, RanksMayBeTakenUpwardAndReleasedInAnyOrder) {
  Guarded<int, LockRank::kRange> low{1};
  Guarded<int, LockRank::kLog> high{2};
  for (int i = 0; i < 2; ++i) {
    auto first = std::make_unique<decltype(low.lock())>(low.lock());
    auto second = high.lock();
    first.reset();
    EXPECT_EQ(*second, 2);
  }
}

TEST(RankedMutex, ReadersShare) {
  RankedMutex<std::shared_mutex, LockRank::kInode> mutex;
  std::shared_lock mine(mutex);
  std::jthread([&mutex] { std::shared_lock theirs(mutex); }).join();
}

#ifndef NDEBUG
TEST(GuardedDeathTest, StopsAtTheFirstLockOutOfOrder) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Guarded<int, LockRank::kRange> low{0};
  Guarded<int, LockRank::kInode> high{0};
  EXPECT_DEATH(
      {
        auto first = high.lock();
        auto second = low.lock();
      },
      "rank 20 taken while rank 30 is held");
}

TEST(GuardedDeathTest, StopsAtTheSameRankTwice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Guarded<int, LockRank::kRange> one{0};
  Guarded<int, LockRank::kRange> other{0};
  EXPECT_DEATH(
      {
        auto first = one.lock();
        auto second = other.lock();
      },
      "rank 20 taken while rank 20 is held");
}
#endif

}  // namespace
}  // namespace fuse4fs
