// SPDX-License-Identifier: GPL-2.0-or-later
// What fuzz_fast_commit starts from, under whatever this is built with.
#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/fast_commit_input.h"

namespace fuse4fs::ext4::fuzz {
namespace {

TEST(FastCommitSeeds, AsTheyAreAndDamaged) {
  const auto seeds = fast_commit_seeds();
  ASSERT_EQ(seeds.size(), 16U);
  std::mt19937 random(1);
  for (const auto& [name, input] : seeds) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(try_fast_commits(input));
    for (int round = 0; round < 6; ++round) {
      auto damaged = input;
      for (int i = 0; i < 3; ++i) damaged[1 + random() % 400] = static_cast<std::byte>(random());
      try_fast_commits(damaged);
    }
  }
}

}  // namespace
}  // namespace fuse4fs::ext4::fuzz
