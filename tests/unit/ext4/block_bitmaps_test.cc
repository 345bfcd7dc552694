// SPDX-License-Identifier: GPL-2.0-or-later
// BlockBitmaps: bits, figures and checksums stay together, on every kind of group; a group that was never
// written begins with what is the volume's own; damage is told once, and costs nothing but its group.
#include "server/ext4/block_bitmaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "tests/unit/ext4/bitmap_figures.h"
#include "tests/unit/ext4/open_volume.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

void expect_consistent(Volume& volume) {
  auto& groups = volume.groups();
  expect_figures(
      groups, volume.block_bitmaps(), [&](GroupNumber group) { return groups.free_clusters(group); },
      groups.free_clusters());
}

using Format = BitmapFormat;

class BlocksOf : public testing::TestWithParam<Format> {
 protected:
  TestVolume volume_{GetParam().options, GetParam().size};
};

TEST_P(BlocksOf, EachIsGivenOnce) {
  OpenVolume open(volume_);
  auto& volume = open.volume();
  auto& blocks = open.metadata().blocks;
  expect_consistent(volume);
  const auto before = blocks.free_blocks();
  std::vector<BlockRun> taken;
  std::set<std::uint64_t> seen;
  std::mt19937 random(7);
  while (true) {
    const auto run =
        open.changing([&] { return blocks.take(random() % volume.blocks(), 1 + random() % 700); });
    if (!run) {
      EXPECT_EQ(run.error(), Errno(ENOSPC));
      break;
    }
    ASSERT_NE(run->count, 0U);
    ASSERT_EQ(run->count % volume.cluster_blocks(), 0U);
    ASSERT_TRUE(volume.may_be_owned(run->first, std::min(run->count, volume.blocks() - run->first)));
    for (auto block = run->first; block < run->end(); ++block)
      ASSERT_TRUE(seen.insert(block).second) << block;
    EXPECT_TRUE(*volume.block_bitmaps().in_use(run->first));
    taken.push_back(*run);
  }
  EXPECT_LE(blocks.free_blocks(), blocks.kept_blocks());
  while (const auto run = open.changing([&] { return blocks.take_for_map(0); })) {
    for (auto block = run->first; block < run->end(); ++block)
      ASSERT_TRUE(seen.insert(block).second) << block;
    taken.push_back(*run);
  }
  EXPECT_EQ(blocks.free_blocks(), 0U);
  expect_consistent(volume);
  ASSERT_TRUE(volume.write_back());
  std::ranges::shuffle(taken, random);
  for (const auto run : taken) {
    ASSERT_TRUE(open.changing([&] { return blocks.give_back(run, 0); }));
    EXPECT_FALSE(*volume.block_bitmaps().in_use(run.first));
  }
  EXPECT_EQ(blocks.free_blocks(), before);
  expect_consistent(volume);
  open.finish();
  EXPECT_EQ(volume_.check(), "");
}

// What it was filled with is judged by e2fsck as files.
TEST_P(BlocksOf, FilesInAllGroups) {
  auto& fs = volume_.mount();
  const std::string bytes(150'000, 'x');
  const auto full = [&](int i) {
    const auto made = fs.make(kRootInode, fmt::format("file {}", i), {.mode = S_IFREG | 0644U});
    if (!made) return true;
    return !fs.write(made->inode, 0, std::as_bytes(std::span(bytes)), {});
  };
  int count = 0;
  while (count < 2000 && !full(count)) ++count;
  EXPECT_GT(count, 50);
  EXPECT_EQ(volume_.unmount_and_check(), "");
  auto& again = volume_.mount();
  for (int i = 0; i < count; i += 2) ASSERT_TRUE(again.unlink(kRootInode, fmt::format("file {}", i)));
  EXPECT_EQ(volume_.unmount_and_check(), "");
  OpenVolume open(volume_);
  expect_consistent(open.volume());
  open.finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(BlocksOf, ThreadsKeepThemConsistent) {
  OpenVolume open(volume_);
  auto& volume = open.volume();
  auto& blocks = open.metadata().blocks;
  const auto before = blocks.free_blocks();
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      std::vector<BlockRun> mine;
      for (unsigned i = 0; i < 200; ++i) {
        EXPECT_TRUE(i % 70 != 50 || volume.write_back());
        const auto run =
            open.changing([&] { return blocks.take(random() % volume.blocks(), 1 + random() % 50); });
        if (run) mine.push_back(*run);
        if (i % 3 != 2 || mine.empty()) continue;
        EXPECT_TRUE(open.changing([&] { return blocks.give_back(mine.front(), 0); }));
        mine.erase(mine.begin());
      }
      for (const auto run : mine) EXPECT_TRUE(open.changing([&] { return blocks.give_back(run, 0); }));
    });
  }
  threads.clear();
  EXPECT_EQ(blocks.free_blocks(), before);
  expect_consistent(volume);
  open.finish();
  EXPECT_EQ(volume_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    BlockBitmaps, BlocksOf,
    testing::Values(Format{"ext4", "-t ext4 -b 4096 -N 2000", "64M"},
                    Format{"manygroups", "-t ext4 -b 1024 -g 1024 -N 5000"},
                    Format{"shortlast", "-t ext4 -b 1024 -g 1024 -N 5000", "30001K"},
                    Format{"metabg", "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode -N 3000"},
                    Format{"bigalloc", "-t ext4 -b 1024 -O bigalloc -C 4096 -N 2000", "40003K"},
                    Format{"crc16", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -N 2000"},
                    Format{"noflexbg", "-t ext4 -b 1024 -O ^flex_bg -N 2000"},
                    Format{"twobackups", "-t ext4 -b 1024 -g 2048 -O sparse_super2 -N 2000"},
                    Format{"short", "-t ext4 -b 2048 -O ^64bit -N 1500"},
                    Format{"ext2", "-t ext2 -b 1024 -N 2000"}),
    [](const auto& info) { return info.param.name; });

class DamagedBlocks : public testing::Test {
 protected:
  DamagedBlocks() { volume_.events.echo = false; }
  [[nodiscard]] std::uint64_t bitmap_of(TestVolume& volume, GroupNumber group) {
    OpenVolume open(volume);
    const auto block = open.volume().groups().block_bitmap(group);
    open.finish();
    return block;
  }
  static void change_byte(TestVolume& volume, std::uint64_t at, char mask) {
    std::fstream file(volume.image(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const auto byte = static_cast<char>(file.get() ^ mask);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
  }
  TestVolume volume_{"-t ext4 -b 1024 -N 2000", "32M"};
};

TEST_F(DamagedBlocks, AWrongChecksumIsToldOnceAndCostsItsGroup) {
  change_byte(volume_, bitmap_of(volume_, 0) * 1024 + 1000, 4);
  OpenVolume open(volume_);
  auto& blocks = open.metadata().blocks;
  EXPECT_TRUE(volume_.events.corruptions.empty());
  const auto run = open.changing([&] { return blocks.take(5000, 10); });
  ASSERT_TRUE(run);
  EXPECT_GE(open.volume().block_bitmaps().group_of(run->first), 1U);
  ASSERT_EQ(volume_.events.corruptions.size(), 1U);
  EXPECT_NE(volume_.events.corruptions[0].find("the block bitmap of group 0 has a wrong checksum, block"),
            std::string::npos)
      << volume_.events.corruptions[0];
  EXPECT_EQ(open.changing([&] { return blocks.give_back({8000, 10}, 0); }), fail(kCorrupted));
  EXPECT_TRUE(open.changing([&] { return blocks.give_back(*run, 0); }));
  EXPECT_EQ(volume_.events.corruptions.size(), 1U);
}

// Nothing of it is given to a file.
TEST_F(DamagedBlocks, WhereTheVolumesOwnAreFreeIsDamage) {
  TestVolume volume("-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^flex_bg -N 2000", "32M");
  volume.events.echo = false;
  // The first eight blocks behind the superblock are descriptors.
  change_byte(volume, bitmap_of(volume, 0) * 1024, '\x10');
  OpenVolume open(volume);
  auto& blocks = open.metadata().blocks;
  const auto run = open.changing([&] { return blocks.take(1, 10); });
  ASSERT_TRUE(run);
  EXPECT_GE(open.volume().block_bitmaps().group_of(run->first), 1U);
  ASSERT_EQ(volume.events.corruptions.size(), 1U);
  EXPECT_NE(
      volume.events.corruptions[0].find("the block bitmap of group 0 calls the volume's own blocks free"),
      std::string::npos)
      << volume.events.corruptions[0];
}

// Descriptors of clusters with blocks of 1 KiB begin a block later, and there are several blocks of them.
TEST(BlockBitmaps, DescriptorsOfManyGroupsGoHome) {
  // Where a flex group has its inodes in its first groups, few others would have any.
  TestVolume volume("-t ext4 -b 1024 -O bigalloc,^flex_bg -C 2048 -N 20000", "640M");
  auto& fs = volume.mount();
  for (int i = 0; i < 60; ++i) {
    const auto directory = fs.make(kRootInode, fmt::format("directory {}", i), {.mode = S_IFDIR | 0755U});
    ASSERT_TRUE(directory);
    volume.write(volume.make_file(directory->inode, "file"), 0, "content");
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
  volume.mount();
  EXPECT_EQ(volume.unmount_and_check(), "");
  OpenVolume open(volume);
  auto& groups = open.volume().groups();
  ASSERT_GT(groups.count(), 32U);
  unsigned used = 0;
  for (GroupNumber group = 0; group < groups.count(); ++group)
    used += groups.used_directories(group) != 0 ? 1 : 0;
  EXPECT_GT(used, 32U);
}

// What was begun goes to the device early, and from memory, before its checksum is made.
TEST(BlockBitmaps, WhatWasBegunMayBeReadAgainBeforeItsChecksumIsThere) {
  TestVolume volume("-t ext4 -b 1024 -g 1024 -N 5000 -O ^has_journal", "128M");
  OpenVolume open(volume);
  auto& blocks = open.metadata().blocks;
  auto& bitmaps = open.volume().block_bitmaps();
  const GroupNumber count = open.volume().groups().count();
  ASSERT_GT(count, 70U);
  std::vector<BlockRun> taken;
  const auto take_in_each = [&] {
    for (GroupNumber group = 0; group < count; ++group) {
      const auto run = open.changing([&] { return blocks.take(bitmaps.blocks_of(group).first + 500, 1); });
      ASSERT_TRUE(run);
      taken.push_back(*run);
    }
  };
  take_in_each();
  // Into the device and away, as far as nobody has them in hands.
  for (int i = 0; i < 8; ++i) open.volume().cache().shrink();
  ASSERT_TRUE(open.volume().cache().flush());
  for (int i = 0; i < 8; ++i) open.volume().cache().shrink();
  take_in_each();
  EXPECT_TRUE(volume.events.corruptions.empty());
  for (const auto run : taken) ASSERT_TRUE(open.changing([&] { return blocks.give_back(run, 0); }));
  open.finish();
  EXPECT_EQ(volume.check(), "");
}

TEST_F(DamagedBlocks, WhereAllGroupsAreThereIsNoRoom) {
  TestVolume volume("-t ext4 -b 1024 -N 500", "8M");
  volume.events.echo = false;
  OpenVolume open(volume);
  ASSERT_EQ(open.volume().groups().count(), 1U);
  std::ignore = open.volume().block_bitmaps().blocks().corrupted(0, "is a test");
  EXPECT_FALSE(open.changing([&] { return open.metadata().blocks.take(0, 1); }));
  EXPECT_EQ(open.changing([&] { return open.metadata().blocks.take(0, 1); }).error(), kCorrupted);
}

TEST_F(DamagedBlocks, NothingIsFreedTwice) {
  TestVolume volume("-t ext4 -b 1024 -g 1024 -N 5000", "32M");
  volume.events.echo = false;
  OpenVolume open(volume);
  auto& blocks = open.metadata().blocks;
  const auto run = open.changing([&] { return blocks.take(9000, 10); });
  ASSERT_TRUE(run);
  const auto free = blocks.free_blocks();
  ASSERT_TRUE(open.changing([&] { return blocks.give_back({run->first, 5}, 0); }));
  EXPECT_EQ(open.changing([&] { return blocks.give_back(*run, 77); }), fail(kCorrupted));
  EXPECT_EQ(blocks.free_blocks(), free + 5);
  ASSERT_EQ(volume.events.corruptions.size(), 1U);
  EXPECT_EQ(volume.events.corruptions[0],
            fmt::format("a block that a file owns is marked free, inode 77, block {}", run->first));
  // Of one in two groups nothing is, where some of it is free.
  auto& bitmaps = open.volume().block_bitmaps();
  const BlockRun both{bitmaps.blocks_of(10).end() - 5, 10};
  ASSERT_TRUE(open.volume().may_be_owned(both.first, both.count));
  ASSERT_TRUE(open.changing([&] { return blocks.take_free(both); }));
  ASSERT_TRUE(open.changing([&] { return blocks.give_back({both.end() - 1, 1}, 0); }));
  EXPECT_EQ(open.changing([&] { return blocks.give_back(both, 77); }), fail(kCorrupted));
  EXPECT_EQ(volume.events.corruptions.back(),
            fmt::format("a block that a file owns is marked free, inode 77, block {}", both.end() - 1));
  EXPECT_EQ(*bitmaps.first_unused(both), both.end() - 1);
  ASSERT_TRUE(open.changing([&] { return blocks.give_back({both.first, 9}, 0); }));
  EXPECT_EQ(*bitmaps.first_unused(both), both.first);
  // In a group that was never written.
  auto& groups = open.volume().groups();
  GroupNumber group = groups.count() - 1;
  while (group != 0 && !groups.has_no_blocks(group)) --group;
  ASSERT_NE(group, 0U);
  EXPECT_EQ(open.changing([&] {
    return blocks.give_back({open.volume().block_bitmaps().blocks_of(group).end() - 1, 1}, 77);
  }),
            fail(kCorrupted));
  expect_consistent(open.volume());
}

// A mount reads none of them, and a write-back writes what was changed.
TEST_F(DamagedBlocks, OnlyWhatIsWantedIsReadAndWritten) {
  TestVolume volume("-t ext4 -b 1024 -g 1024 -N 5000", "32M");
  OpenVolume open(volume);
  auto& cache = open.volume().cache();
  auto& groups = open.volume().groups();
  ASSERT_TRUE(open.volume().write_back());
  const auto before = cache.cached_blocks();
  const auto run = open.changing([&] { return open.metadata().blocks.take(20'000, 1); });
  ASSERT_TRUE(run);
  EXPECT_EQ(cache.cached_blocks(), before + 1);
  EXPECT_EQ(cache.dirty_blocks(), 1U);
  EXPECT_FALSE(groups.has_no_blocks(open.volume().block_bitmaps().group_of(run->first)));
  ASSERT_TRUE(open.changing([&] { return open.metadata().blocks.give_back(*run, 0); }));
  ASSERT_TRUE(open.volume().write_back());
  EXPECT_EQ(cache.dirty_blocks(), 0U);
  open.finish();
  EXPECT_EQ(volume.check(), "");
}

// More than a group has: no search for what cannot be.
TEST_F(DamagedBlocks, LongRunsGoFromGroupToGroup) {
  TestVolume volume("-t ext4 -b 1024 -g 1024 -N 2000 -O ^has_journal", "32M");
  OpenVolume open(volume);
  auto& blocks = open.metadata().blocks;
  auto& groups = open.volume().groups();
  const auto unwritten = [&] {
    GroupNumber count = 0;
    for (GroupNumber group = 0; group < groups.count(); ++group) count += groups.has_no_blocks(group) ? 1 : 0;
    return count;
  };
  const auto before = unwritten();
  ASSERT_GT(before, 10U);
  std::vector<BlockRun> taken;
  std::uint64_t goal = open.volume().block_bitmaps().blocks_of(10).first + 1000;
  for (int i = 0; i < 4; ++i) {
    const auto run = open.changing([&] { return blocks.take(goal, 20'000); });
    ASSERT_TRUE(run);
    // The end of the first group, and then whole ones.
    EXPECT_EQ(run->first, goal);
    EXPECT_EQ(run->end(), open.volume().block_bitmaps().blocks_of(10 + static_cast<GroupNumber>(i)).end());
    goal = run->end();
    taken.push_back(*run);
  }
  EXPECT_GE(unwritten() + 4, before);
  for (const auto run : taken) ASSERT_TRUE(open.changing([&] { return blocks.give_back(run, 0); }));
  open.finish();
  EXPECT_EQ(volume.check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
