// SPDX-License-Identifier: GPL-2.0-or-later
// What was freed is not given out before its release is on the medium, and a volume that runs full is
// nevertheless as large as it is.
#include <fmt/format.h>

#include "server/ext4/block_runs.h"
#include "server/ext4/unreleased.h"
#include "tests/unit/ext4/open_volume.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

TEST(BlockRuns, JoinAndAreFound) {
  BlockRuns runs;
  runs.add(10, 5);
  runs.add(20, 5);
  EXPECT_EQ(runs.count(), 10U);
  runs.add(15, 5);
  EXPECT_EQ(runs.count(), 15U);
  EXPECT_EQ(runs.behind(10), 25U);
  EXPECT_EQ(runs.behind(9), 9U);
  EXPECT_EQ(runs.behind(25), 25U);
  EXPECT_EQ(runs.next(0), 10U);
  EXPECT_EQ(runs.next(12), 12U);
  EXPECT_EQ(runs.next(25), UINT64_MAX);
  runs.add(12, 100);
  EXPECT_EQ(runs.count(), 102U);
  runs.add(5, 2);
  EXPECT_TRUE(runs.contains(6));
  EXPECT_FALSE(runs.contains(7));
  EXPECT_EQ(runs.count(), 104U);
}

TEST(Unreleased, AreBarredUntilAWriteBackIsDone) {
  Unreleased freed;
  freed.add_blocks(100, 10);
  EXPECT_EQ(freed.first_free(90, 120).first, 90U);
  EXPECT_EQ(freed.first_free(90, 120).end, 100U);
  EXPECT_EQ(freed.first_free(100, 120).first, 110U);
  EXPECT_EQ(freed.first_free(100, 110).first, freed.first_free(100, 110).end);
  freed.begin();
  // After it began: for the next one.
  freed.add_blocks(110, 5);
  freed.add_inode(12);
  EXPECT_EQ(freed.first_free(100, 120).first, 115U);
  EXPECT_EQ(freed.blocks(), 15U);
  freed.release();
  EXPECT_EQ(freed.first_free(100, 120).first, 100U);
  EXPECT_EQ(freed.first_free(100, 120).end, 110U);
  EXPECT_EQ(freed.first_free_inode(11), 11U);
  EXPECT_EQ(freed.first_free_inode(12), 13U);
  freed.begin();
  freed.release();
  EXPECT_TRUE(freed.is_empty());
}

// Each run takes memory: whoever frees so many writes back.
TEST(Unreleased, SaysWhenTheyAreMany) {
  Unreleased freed;
  constexpr std::uint64_t kFew = 60'000;
  for (std::uint64_t i = 0; i < kFew; ++i) freed.add_blocks(2 * i, 1);
  EXPECT_FALSE(freed.are_many());
  for (std::uint64_t i = kFew; i < 2 * kFew; ++i) freed.add_blocks(2 * i, 1);
  EXPECT_TRUE(freed.are_many());
  freed.begin();
  EXPECT_FALSE(freed.are_many());
  freed.add_blocks(1, 1);
  freed.begin();
  EXPECT_EQ(freed.blocks(), 2 * kFew + 1);
  freed.release();
  EXPECT_EQ(freed.blocks(), 0U);
}

TEST(Reuse, WaitsForAWriteBack) {
  TestVolume volume("-t ext4 -b 1024 -O ^has_journal", "8M");
  OpenVolume open(volume);
  auto& blocks = open.metadata().blocks;
  auto& inodes = open.metadata().inode_allocator;
  std::optional handle(open.change());
  const auto run = blocks.take(5000, 10);
  ASSERT_TRUE(run);
  const auto number = inodes.take(kRootInode, S_IFREG);
  ASSERT_TRUE(number);
  const auto free = blocks.free_blocks();
  ASSERT_TRUE(blocks.give_back(*run, 0));
  inodes.give_back(*number, S_IFREG);
  EXPECT_EQ(blocks.free_blocks(), free + 10);
  EXPECT_EQ(blocks.usable_blocks(), free);
  EXPECT_TRUE(open.volume().has_unreleased());
  const auto other = blocks.take(run->first, 10);
  ASSERT_TRUE(other);
  EXPECT_GE(other->first, run->first + 10);
  const auto other_number = inodes.take(kRootInode, S_IFREG);
  ASSERT_TRUE(other_number);
  EXPECT_NE(*other_number, *number);
  inodes.give_back(*other_number, S_IFREG);
  ASSERT_TRUE(blocks.give_back(*other, 0));
  handle.reset();
  ASSERT_TRUE(open.volume().write_back());
  EXPECT_FALSE(open.volume().has_unreleased());
  handle.emplace(open.change());
  const auto again = blocks.take(run->first, 10);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->first, run->first);
  EXPECT_EQ(inodes.take(kRootInode, S_IFREG), *number);
  inodes.give_back(*number, S_IFREG);
  ASSERT_TRUE(blocks.give_back(*again, 0));
  handle.reset();
  open.finish();
  EXPECT_EQ(volume.check(), "");
}

class FullVolume : public testing::TestWithParam<const char*> {};

// Each round fills it to the last block and empties it again; nobody asks for a write-back.
TEST_P(FullVolume, IsAsLargeEachTime) {
  TestVolume volume(GetParam(), "4M");
  auto& fs = volume.mount();
  const auto before = fs.statistics();
  ASSERT_TRUE(before);
  const std::string bytes(100'000, 'x');
  std::size_t first_count = 0;
  for (int round = 0; round < 4; ++round) {
    std::vector<std::string> names;
    while (names.size() < 1000) {
      const auto name = fmt::format("file {}", names.size());
      const auto made = fs.make(kRootInode, name, {.mode = S_IFREG | 0644U});
      if (!made) {
        EXPECT_EQ(made.error(), Errno(ENOSPC));
        break;
      }
      names.push_back(name);
      const auto written =
          fs.write(made->inode, 0, std::as_bytes(std::span(bytes)), AttributeChanges::Privileges::kKeep);
      fs.forget(made->inode, 1);
      if (!written) {
        EXPECT_EQ(written.error(), Errno(ENOSPC));
        break;
      }
    }
    if (round == 0) first_count = names.size();
    EXPECT_EQ(names.size(), first_count) << round;
    EXPECT_LE(fs.statistics()->available_blocks * fs.block_size(), bytes.size() * 2) << round;
    for (const auto& name : names) EXPECT_TRUE(fs.unlink(kRootInode, name));
  }
  // The inodes as well.
  for (int round = 0; round < 3; ++round) {
    std::size_t made = 0;
    while (fs.make(kRootInode, fmt::format("n{}", made), {.mode = S_IFREG | 0644U})) ++made;
    EXPECT_EQ(made, before->free_inodes) << round;
    for (std::size_t i = 0; i < made; ++i) {
      const auto name = fmt::format("n{}", i);
      const auto found = fs.lookup(kRootInode, name);
      ASSERT_TRUE(found);
      ASSERT_TRUE(fs.unlink(kRootInode, name));
      fs.forget(found->inode, 2);
    }
  }
  EXPECT_EQ(fs.statistics()->free_inodes, before->free_inodes);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

INSTANTIATE_TEST_SUITE_P(Kinds, FullVolume,
                         testing::Values("-t ext2 -b 1024 -N 200", "-t ext4 -b 1024 -O ^has_journal -N 200",
                                         "-t ext4 -b 4096 -O ^has_journal,bigalloc -C 16384 -N 200"));

}  // namespace
}  // namespace fuse4fs::ext4
