// SPDX-License-Identifier: GPL-2.0-or-later
// What fuzz_directory starts from, and more damage, under whatever this is built with.
#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/directory_input.h"

namespace fuse4fs::ext4::fuzz {
namespace {

TEST(DirectorySeeds, AsTheyAreAndDamaged) {
  const auto seeds = directory_seeds();
  ASSERT_EQ(seeds.size(), 80U);
  std::mt19937 random(1);
  for (const auto& [name, input] : seeds) {
    SCOPED_TRACE(name);
    const bool good = try_directory(input);
    if (name.starts_with("good")) {
      EXPECT_TRUE(good);
    }
    auto damaged = input;
    for (int i = 0; i < 3; ++i) {
      const unsigned at = random() % 1024;
      for (const unsigned byte : {unsigned(random()) % 4U, at & 255U, at >> 8U, 1U, unsigned(random())})
        damaged.push_back(static_cast<std::byte>(byte));
    }
    try_directory(damaged);
  }
}

}  // namespace
}  // namespace fuse4fs::ext4::fuzz
