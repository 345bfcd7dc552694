// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_runs.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace fuse4fs::ext4 {
namespace {

// Against a set that has each number by itself.
TEST(BlockRuns, AreASet) {
  constexpr std::uint64_t kNumbers = 60;
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    BlockRuns runs;
    std::set<std::uint64_t> expected;
    for (int step = 0; step < 40; ++step) {
      const std::uint64_t first = random() % kNumbers;
      const std::uint64_t count = random() % 8;
      if (random() % 2 == 0) {
        runs.add(first, count);
        for (std::uint64_t i = first; i < first + count; ++i) expected.insert(i);
      } else {
        runs.remove(first, count);
        for (std::uint64_t i = first; i < first + count; ++i) expected.erase(i);
      }
      ASSERT_EQ(runs.count(), expected.size());
      for (std::uint64_t i = 0; i < kNumbers + 10; ++i) {
        ASSERT_EQ(runs.contains(i), expected.contains(i));
        const auto next = expected.lower_bound(i);
        ASSERT_EQ(runs.next(i), next == expected.end() ? UINT64_MAX : *next);
        std::uint64_t behind = i;
        while (expected.contains(behind)) ++behind;
        ASSERT_EQ(runs.behind(i), behind);
      }
    }
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
