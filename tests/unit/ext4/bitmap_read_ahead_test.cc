// SPDX-License-Identifier: GPL-2.0-or-later
// How many requests the bitmaps of many groups take, and which are read that nobody asked for.
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "tests/devices/faulty_backend.h"
#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

using cache::Fault;

constexpr std::uint64_t kBlock = 1024;
constexpr const char* kSize = "128M";  // 16 groups, of one row
const std::string kWritten = "-t ext4 -b 1024 -N 4096 -O ^has_journal,^metadata_csum,^uninit_bg";
const std::string kApart = kWritten + ",^flex_bg";

class BitmapReadAhead : public testing::Test {
 protected:
  // Where they lie.
  std::vector<std::uint64_t> block_bitmaps() {
    OpenVolume open(*volume_);
    std::vector<std::uint64_t> blocks;
    for (GroupNumber group = 0; group < open.volume().groups().count(); ++group)
      blocks.push_back(open.volume().groups().block_bitmap(group));
    open.finish();
    return blocks;
  }
  // How many requests for them a walk through all groups takes.
  int requests_of_a_walk(const std::string& options) {
    volume_.emplace(options, kSize);
    const auto blocks = block_bitmaps();
    EXPECT_EQ(blocks.size(), 16U);
    std::atomic<int> requests{0};
    const auto faults = std::make_shared<cache::Faults>();
    const auto count = [&](std::uint64_t first, std::uint64_t number) {
      faults->add({.operation = Fault::Operation::kRead,
                   .effect = Fault::Effect::kHold,
                   .offset = first * kBlock,
                   .length = number * kBlock,
                   .times = Fault::kForever,
                   .held = [&] { ++requests; }});
    };
    if (blocks[1] == blocks[0] + 1)
      count(blocks.front(), blocks.size());
    else
      for (const auto block : blocks) count(block, 1);
    volume_->wrap_device = [&](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::FaultyBackend>(std::move(device), faults);
    };
    auto& fs = volume_->mount();
    EXPECT_EQ(requests, 0) << "a mount reads none";
    EXPECT_GT(fs.trim({0, UINT64_MAX}, 0).value(), 100U << 20);
    EXPECT_EQ(volume_->unmount_and_check(), "");
    return requests;
  }
  // Of these groups' bitmaps, those that are in memory.
  template <class Where>
  static std::vector<GroupNumber> here(Volume& volume, const Where& where) {
    std::vector<GroupNumber> groups;
    for (GroupNumber group = 0; group < volume.groups().count(); ++group) {
      if (volume.cache().has(where(group))) groups.push_back(group);
    }
    return groups;
  }

  std::optional<TestVolume> volume_;
};

TEST_F(BitmapReadAhead, AWalkReadsARowAtOnce) { EXPECT_EQ(requests_of_a_walk(kWritten), 1); }

TEST_F(BitmapReadAhead, OnesThatLieApartAreReadOneByOne) { EXPECT_EQ(requests_of_a_walk(kApart), 16); }

TEST_F(BitmapReadAhead, ASearchReadsAheadWhenItLeavesItsGroup) {
  volume_.emplace(kWritten, kSize);
  {
    OpenVolume open(*volume_);
    auto& volume = open.volume();
    const auto blocks_here = [&] {
      return here(volume, [&](GroupNumber group) { return volume.groups().block_bitmap(group); });
    };
    const auto inodes_here = [&] {
      return here(volume, [&](GroupNumber group) { return volume.groups().inode_bitmap(group); });
    };
    auto& metadata = open.metadata();
    const auto third = volume.block_bitmaps().blocks_of(3);
    ASSERT_TRUE(open.changing([&] { return metadata.blocks.take(third.first, 1); }));
    EXPECT_EQ(blocks_here(), std::vector<GroupNumber>{3}) << "who finds what he wants reads one";
    ASSERT_TRUE(open.changing([&] { return metadata.blocks.take_free(third); }));
    ASSERT_TRUE(
        open.changing([&] { return metadata.blocks.take_free(volume.block_bitmaps().blocks_of(9)); }));
    EXPECT_EQ(blocks_here(), (std::vector<GroupNumber>{3, 9}));
    const auto run = open.changing([&] { return metadata.blocks.take(third.first, 1); });
    ASSERT_TRUE(run);
    EXPECT_EQ(volume.block_bitmaps().group_of(run->first), 4U);
    std::vector<GroupNumber> expected;
    for (GroupNumber group = 3; group < 16; ++group) expected.push_back(group);
    EXPECT_EQ(blocks_here(), expected);
    EXPECT_TRUE(inodes_here().empty());
    // Likewise inodes: 256 a group.
    for (int i = 0; i < 200; ++i)
      ASSERT_TRUE(open.changing([&] { return metadata.inode_allocator.take(kRootInode, S_IFREG); }));
    EXPECT_EQ(inodes_here(), std::vector<GroupNumber>{0});
    for (int i = 0; i < 100; ++i)
      ASSERT_TRUE(open.changing([&] { return metadata.inode_allocator.take(kRootInode, S_IFREG); }));
    EXPECT_EQ(inodes_here().size(), 16U);
  }
}

TEST_F(BitmapReadAhead, WhatWasNeverWrittenIsNotRead) {
  volume_.emplace("-t ext4 -b 1024 -O ^has_journal", kSize);
  OpenVolume open(*volume_);
  auto& volume = open.volume();
  auto& groups = volume.groups();
  std::vector<GroupNumber> unwritten;
  for (GroupNumber group = 0; group < groups.count(); ++group) {
    if (groups.has_no_blocks(group)) unwritten.push_back(group);
  }
  ASSERT_FALSE(unwritten.empty());
  ASSERT_LT(unwritten.size(), groups.count());
  for (GroupNumber group = 0; group < groups.count(); ++group)
    volume.block_bitmaps().blocks().read_ahead(group);
  for (const auto group : unwritten) EXPECT_FALSE(volume.cache().has(groups.block_bitmap(group))) << group;
}

}  // namespace
}  // namespace fuse4fs::ext4
