// SPDX-License-Identifier: GPL-2.0-or-later
// What the fuzzers of a volume's areas start from, under whatever this is built with.
#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/volume_input.h"

namespace fuse4fs::ext4::fuzz {
namespace {

class VolumeSeeds : public testing::TestWithParam<Area> {};

TEST_P(VolumeSeeds, AsTheyAreAndDamaged) {
  std::mt19937 random(1);
  for (const auto& [name, input] : volume_seeds(GetParam())) {
    SCOPED_TRACE(name);
    EXPECT_EQ(try_volume(GetParam(), input), Tried::kMounted);
    for (int round = 0; round < 8; ++round) {
      auto damaged = input;
      for (int i = 0; i < 3; ++i)
        damaged[1 + random() % (damaged.size() - 1)] = static_cast<std::byte>(random());
      try_volume(GetParam(), damaged);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Areas, VolumeSeeds,
                         testing::Values(Area::kSuperblock, Area::kInodes, Area::kOrphans, Area::kDescriptors,
                                         Area::kBitmaps, Area::kMaps, Area::kAttributes),
                         [](const auto& info) {
                           switch (info.param) {
                             case Area::kSuperblock:
                               return "Superblock";
                             case Area::kInodes:
                               return "Inodes";
                             case Area::kOrphans:
                               return "Orphans";
                             case Area::kDescriptors:
                               return "Descriptors";
                             case Area::kBitmaps:
                               return "Bitmaps";
                             case Area::kMaps:
                               return "Maps";
                             case Area::kAttributes:
                               return "Attributes";
                           }
                           return "";
                         });

}  // namespace
}  // namespace fuse4fs::ext4::fuzz
