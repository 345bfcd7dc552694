// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/live_inodes.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

namespace fuse4fs::ext4 {
namespace {

TEST(LiveInodes, AreThereAsLongAsSomebodyKnowsThem) {
  LiveInodes table;
  table.count(12);
  table.count(12);
  EXPECT_EQ(table.size(), 1U);
  EXPECT_FALSE(table.forget(12, 1));
  EXPECT_EQ(table.size(), 1U);
  EXPECT_FALSE(table.forget(12, 1));
  EXPECT_EQ(table.size(), 0U);
  // More than there are, and of one that is unknown.
  table.count(13);
  EXPECT_FALSE(table.forget(13, UINT64_MAX));
  EXPECT_FALSE(table.forget(14, 1));
  EXPECT_EQ(table.size(), 0U);
}

TEST(LiveInodes, AreThereAsLongAsSomebodyHoldsThem) {
  LiveInodes table;
  {
    const auto held = table.lock_shared(12);
    EXPECT_EQ(held.number(), 12U);
    EXPECT_FALSE(held.has_lookups());
    EXPECT_EQ(table.size(), 1U);
    table.count(12);
    EXPECT_TRUE(held.has_lookups());
    EXPECT_FALSE(table.forget(12, 1));
    EXPECT_EQ(table.size(), 1U);
  }
  EXPECT_EQ(table.size(), 0U);
  {
    const auto held = table.lock(12);
    held.set_map_checked(true);
  }
  EXPECT_FALSE(table.lock(12).map_checked()) << "what was known of it went with it";
  auto tried = table.try_lock(12);
  ASSERT_TRUE(tried);
  std::jthread([&] { EXPECT_FALSE(table.try_lock(12)); }).join();
  tried.reset();
  EXPECT_EQ(table.size(), 0U);
}

TEST(LiveInodes, AnUnlinkedOneIsDeletedOnce) {
  LiveInodes table;
  table.count(12);
  {
    const auto held = table.lock(12);
    held.unlink();
    EXPECT_TRUE(held.is_unlinked());
    EXPECT_FALSE(held.claim_deletion()) << "somebody has it looked up";
  }
  EXPECT_EQ(table.unlinked(), std::vector<InodeNumber>{12});
  EXPECT_TRUE(table.forget(12, 1));
  EXPECT_EQ(table.size(), 1U) << "it waits for who deletes it";
  {
    const auto held = table.lock(12);
    EXPECT_TRUE(held.claim_deletion());
    EXPECT_FALSE(held.claim_deletion());
  }
  EXPECT_EQ(table.size(), 0U);
  EXPECT_TRUE(table.unlinked().empty());
}

TEST(LiveInodes, OneThatIsLookedUpAgainStays) {
  LiveInodes table;
  table.count(12);
  table.lock(12).unlink();
  EXPECT_TRUE(table.forget(12, 1));
  // By a file handle, before it was deleted.
  const auto again = table.count(12);
  EXPECT_FALSE(table.lock(12).claim_deletion());
  EXPECT_TRUE(again.lock_shared().is_unlinked());
  EXPECT_TRUE(table.forget(12, 1));
  EXPECT_TRUE(table.lock(12).claim_deletion());
  EXPECT_EQ(table.size(), 0U);
}

TEST(LiveInodes, ASetHasSeveral) {
  LiveInodes table;
  LiveInodes::ExclusiveSet set(table);
  set.lock_all({30, 0, 10, 30});
  EXPECT_TRUE(set.has(10));
  EXPECT_TRUE(set.has(30));
  EXPECT_FALSE(set.has(0));
  EXPECT_EQ(set[30].number(), 30U);
  EXPECT_TRUE(set.try_lock(20)) << "without waiting, so in any order";
  EXPECT_FALSE(set.is_full());
  set.lock(40);
  EXPECT_TRUE(set.is_full());
  EXPECT_EQ(table.size(), 4U);
  set.clear();
  EXPECT_EQ(table.size(), 0U);
  set.lock(5);
  EXPECT_TRUE(set.has(5));
}

TEST(LiveInodes, ComeAndGoUnderManyThreads) {
  LiveInodes table;
  constexpr int kThreads = 6;
  constexpr int kRounds = 3000;
  int cells[3] = {};  // plain: the thread sanitizer watches as well
  std::atomic<int> deleted = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kRounds; ++i) {
          const auto number = static_cast<InodeNumber>((i + t) % 3 + 1);
          const auto counted = table.count(number);
          {
            const auto held = counted.lock_shared();
            EXPECT_TRUE(held.has_lookups());
          }
          if (i % 4 == t % 4) {
            LiveInodes::ExclusiveSet both(table);
            both.lock_all({number, number % 3 + 1});
            ++cells[number - 1];
            if (i % 8 == 0) both[number].unlink();
          }
          if (table.forget(number, 1) && table.lock(number).claim_deletion()) ++deleted;
        }
      });
    }
  }
  EXPECT_EQ(cells[0] + cells[1] + cells[2], kThreads * kRounds / 4);
  EXPECT_GT(deleted, 0);
  EXPECT_EQ(table.size(), table.unlinked().size());
}

#ifndef NDEBUG
TEST(LiveInodesDeathTest, TheHigherNumberIsNotWaitedForFirst) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        LiveInodes table;
        const auto high = table.lock_shared(20);
        const auto low = table.lock_shared(10);
      },
      "rank 30 taken while rank 30 is held");
}
#endif

}  // namespace
}  // namespace fuse4fs::ext4
