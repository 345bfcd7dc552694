// SPDX-License-Identifier: GPL-2.0-or-later
// What the tests of both bitmaps share.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#include "server/ext4/group_descriptors.h"

namespace fuse4fs::ext4 {

struct BitmapFormat {
  const char* name;
  const char* options;
  const char* size = "32M";
};

// Each group's figure is what its bits say, and the sum is theirs.
template <class Bitmaps, class FreeOf>
void expect_figures(GroupDescriptors& groups, Bitmaps& bitmaps, const FreeOf& free_of, std::uint64_t sum) {
  std::uint64_t free = 0;
  for (GroupNumber group = 0; group < groups.count(); ++group) {
    const auto counted = bitmaps.count_free(group);
    ASSERT_TRUE(counted);
    EXPECT_EQ(free_of(group), *counted) << "group " << group;
    free += *counted;
  }
  EXPECT_EQ(sum, free);
}

}  // namespace fuse4fs::ext4
