// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks that files which grow are given before they need them.
#include "tests/unit/ext4/mapped_file.h"

namespace fuse4fs::ext4 {
namespace {

class MappedAhead : public MappedFile {
 protected:
  MappedAhead() {
    mount();
    file_ = volume_->make_file(kRootInode, "file");
    write(0, std::string(10 * kBlock, 'x'), MappingPurpose::kBufferedWrite);
    write(10 * kBlock, std::string(kBlock, 'x'), MappingPurpose::kBufferedWrite);
    EXPECT_GT(blocks(), 11U);
  }
  // Of another file, to the last block.
  void fill_volume() {
    const InodeNumber file = std::exchange(file_, volume_->make_file(kRootInode, "filler"));
    Result<DataMapping> given = fail(EIO);
    for (std::uint64_t at = 0; (given = ask(at, 1 << 20, MappingPurpose::kBufferedWrite));)
      at = given->offset + given->length;
    EXPECT_EQ(given.error(), Errno(ENOSPC));
    file_ = file;
  }
};

TEST_F(MappedAhead, ItIsGivenBackAfterAWhileAndTheCallerForgetsItFirst) {
  const auto ahead = blocks();
  auto& fs = volume_->fs();
  ASSERT_TRUE(fs.write_back());
  EXPECT_TRUE(cache_.forgotten.empty());
  ASSERT_TRUE(fs.write_back());
  ASSERT_EQ(cache_.forgotten.size(), 1U);
  EXPECT_EQ(cache_.forgotten[0].offset, 11 * kBlock);
  EXPECT_EQ(cache_.forgotten[0].length, MappingCache::kToEnd);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(fs.write_back());
  EXPECT_EQ(blocks(), ahead) << "who has a mapping in his hands may still be using it";
  ASSERT_TRUE(fs.write_back());
  EXPECT_EQ(blocks(), 11U);
  EXPECT_EQ(content(), std::string(11 * kBlock, 'x'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, ItStaysWhereTheCallerDoesNotForget) {
  const auto ahead = blocks();
  cache_.forgets = false;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(volume_->fs().write_back());
  EXPECT_EQ(blocks(), ahead);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, WhoIsNotIdleKeepsIt) {
  const auto ahead = blocks();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(volume_->fs().write_back());
    ASSERT_TRUE(ask(0, 1, MappingPurpose::kRead));
  }
  EXPECT_EQ(blocks(), ahead);
}

TEST_F(MappedAhead, WhatTheCallerHasReachedInMemoryStays) {
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 11 * kBlock, .length = kBlock + 1},
                                       .done = kBlock + 1,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(volume_->fs().write_back());
  EXPECT_EQ(blocks(), 13U);
  EXPECT_EQ(size(), 11 * kBlock) << "its data is not on the device yet";
}

TEST_F(MappedAhead, ItGoesWhenTheInodeIsForgotten) {
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(blocks(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, WhatWasAskedForStays) {
  ASSERT_TRUE(volume_->fs().change_range(file_, RangeChange::kAllocate,
                                         {.offset = 11 * kBlock, .length = 40 * kBlock}, EndOfFile::kKeep,
                                         AttributeChanges::Privileges::kKeep));
  const auto allocated = blocks();
  EXPECT_GE(allocated, 51U);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(volume_->fs().write_back());
  EXPECT_EQ(blocks(), allocated);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, ACutTakesItAlong) {
  resize(2 * kBlock);
  EXPECT_EQ(blocks(), 2U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AShortWriteLeavesNothing) {
  const auto given = ask(100 * kBlock, 20 * kBlock, MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(given);
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 100 * kBlock, .length = 20 * kBlock},
                                       .done = 0}));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(volume_->fs().write_back());
  EXPECT_EQ(blocks(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AWriteFarBehindItLeavesNothingBetween) {
  for (const std::uint64_t at : {100, 1000, 3000})
    write(at * kBlock, std::string(kBlock, 'x'), MappingPurpose::kBufferedWrite);
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_LE(blocks(), 15U) << "one may be a node of the map";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// A direct write may have begun there, by a mapping that the kernel has kept, and ask only for its rest.
TEST_F(MappedAhead, ADirectWriteFarBehindItLeavesIt) {
  const auto ahead = blocks();
  ASSERT_TRUE(ask(100 * kBlock, kBlock, MappingPurpose::kDirectWrite));
  EXPECT_EQ(blocks(), ahead + 1);
  EXPECT_TRUE(cache_.forgotten.empty());
  complete(12 * kBlock, (ahead - 12) * kBlock, true);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AShortWriteIntoItGivesThatBackToo) {
  ASSERT_TRUE(ask(11 * kBlock, 3 * kBlock, MappingPurpose::kBufferedWrite));
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 11 * kBlock, .length = 3 * kBlock},
                                       .done = kBlock,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(blocks(), 12U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AShortWriteLeavesWhatWasAskedFor) {
  resize(11 * kBlock);
  ASSERT_TRUE(volume_->fs().change_range(file_, RangeChange::kAllocate,
                                         {.offset = 20 * kBlock, .length = 10 * kBlock}, EndOfFile::kKeep,
                                         AttributeChanges::Privileges::kKeep));
  const auto allocated = blocks();
  ASSERT_TRUE(ask(11 * kBlock, 15 * kBlock, MappingPurpose::kBufferedWrite));
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 11 * kBlock, .length = 15 * kBlock},
                                       .done = 0}));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(volume_->fs().write_back());
  EXPECT_EQ(blocks(), allocated + 9) << "nothing is unmapped that somebody may have wanted";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, ItIsGivenBackWhereOthersFindNoRoom) {
  fill_volume();
  EXPECT_EQ(blocks(), 11U);
  EXPECT_FALSE(cache_.forgotten.empty());
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// A direct write may be on its way to it, of which nobody has heard yet.
TEST_F(MappedAhead, ItStaysWhereTheFileIsWrittenDirectly) {
  write(11 * kBlock, std::string(kBlock, 'x'));
  const auto ahead = blocks();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(volume_->fs().write_back());
  fill_volume();
  EXPECT_EQ(blocks(), ahead);
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(blocks(), 12U) << "the kernel itself knows that there is none";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, WhatAllFilesHaveAheadIsAPartOfWhatIsFree) {
  mount();
  const std::uint64_t free = volume_->fs().statistics()->free_blocks;
  for (int i = 0; i < 20; ++i) {
    file_ = volume_->make_file(kRootInode, std::to_string(i));
    write(0, std::string(kBlock, 'x'), MappingPurpose::kBufferedWrite);
    ASSERT_TRUE(ask((16 << 20) - kBlock, kBlock, MappingPurpose::kBufferedWrite));
  }
  EXPECT_GE(volume_->fs().statistics()->free_blocks, free - free / 8 - 40);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
