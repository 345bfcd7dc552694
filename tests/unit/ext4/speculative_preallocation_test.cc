// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks that files are given before they need them.
#include <thread>

#include "server/ext4/preallocated_blocks.h"
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
    EXPECT_GT(mapped(), 11U);
  }
};

// What lies before that is not forgotten, be it asked for or not.
TEST(PreallocatedBlocks, OfWhatLiesAheadAPartCanBeForgotten) {
  PreallocatedBlocks blocks([] { return PreallocatedBlocks::TimePoint(); });
  constexpr InodeNumber kFile = 12;
  blocks.note_ahead(kFile, {.floor = 5, .first = 12, .end = 20});
  blocks.forget_ahead(kFile, 15);
  EXPECT_EQ(blocks.blocks_ahead(), 3U);
  blocks.forget_ahead(kFile, 7);
  EXPECT_EQ(blocks.blocks_ahead(), 0U);
  blocks.shorten(kFile, 12, 5);
  EXPECT_EQ(blocks.ahead_of(kFile).first, 5U);
  EXPECT_EQ(blocks.ahead_of(kFile).end, 7U);
  blocks.forget_ahead(kFile);
  EXPECT_FALSE(blocks.knows(kFile));
}

TEST_F(MappedAhead, ItIsNotCounted) {
  EXPECT_GT(mapped(), 11U);
  EXPECT_EQ(blocks(), 11U);
  // In memory the file is longer.
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 11 * kBlock, .length = kBlock + 1},
                                       .done = kBlock + 1,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  EXPECT_EQ(blocks(), 13U);
}

TEST_F(MappedAhead, ItIsGivenBackAfterAWhileAndTheCallerForgetsItFirst) {
  const auto ahead = mapped();
  rounds(1);
  EXPECT_TRUE(cache_.forgotten.empty());
  rounds(1);
  ASSERT_EQ(cache_.forgotten.size(), 1U);
  EXPECT_EQ(cache_.forgotten[0].offset, 11 * kBlock);
  EXPECT_EQ(cache_.forgotten[0].length, MappingCache::kToEnd);
  rounds(5);
  EXPECT_EQ(mapped(), ahead) << "who has a mapping in his hands may still be using it";
  rounds(1);
  EXPECT_EQ(mapped(), 11U);
  EXPECT_EQ(content(), std::string(11 * kBlock, 'x'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, ItStaysWhereTheCallerDoesNotForget) {
  const auto ahead = mapped();
  cache_.forgets = false;
  rounds(10);
  EXPECT_EQ(mapped(), ahead);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, WhoIsNotIdleKeepsIt) {
  const auto ahead = mapped();
  for (int i = 0; i < 10; ++i) {
    rounds(1);
    ASSERT_TRUE(ask(0, 1, MappingPurpose::kRead));
  }
  EXPECT_EQ(mapped(), ahead);
}

TEST_F(MappedAhead, WhatTheCallerHasReachedInMemoryStays) {
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 11 * kBlock, .length = kBlock + 1},
                                       .done = kBlock + 1,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  rounds(10);
  EXPECT_EQ(mapped(), 13U);
  EXPECT_EQ(size(), 11 * kBlock) << "its data is not on the device yet";
}

TEST_F(MappedAhead, ItGoesWhenTheInodeIsForgotten) {
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(mapped(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, WhatWasAskedForStays) {
  ASSERT_TRUE(change_range(RangeChange::kAllocate, {.offset = 11 * kBlock, .length = 40 * kBlock}));
  const auto allocated = mapped();
  EXPECT_GE(allocated, 51U);
  rounds(10);
  EXPECT_EQ(mapped(), allocated);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, ACutTakesItAlong) {
  resize(2 * kBlock);
  EXPECT_EQ(mapped(), 2U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AShortWriteLeavesNothing) {
  const auto given = ask(100 * kBlock, 20 * kBlock, MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(given);
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 100 * kBlock, .length = 20 * kBlock},
                                       .done = 0}));
  rounds(10);
  EXPECT_EQ(mapped(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AWriteFarBehindItLeavesNothingBetween) {
  for (const std::uint64_t at : {100, 1000, 3000})
    write(at * kBlock, std::string(kBlock, 'x'), MappingPurpose::kBufferedWrite);
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_LE(mapped(), 15U) << "one may be a node of the map";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// A direct write may have begun there, by a mapping that the kernel has kept, and ask only for its rest.
TEST_F(MappedAhead, ADirectWriteFarBehindItLeavesIt) {
  const auto ahead = mapped();
  ASSERT_TRUE(ask(100 * kBlock, kBlock, MappingPurpose::kDirectWrite));
  EXPECT_EQ(mapped(), ahead + 1);
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
  EXPECT_EQ(mapped(), 12U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AShortWriteLeavesWhatWasAskedFor) {
  resize(11 * kBlock);
  ASSERT_TRUE(change_range(RangeChange::kAllocate, {.offset = 20 * kBlock, .length = 10 * kBlock}));
  const auto allocated = mapped();
  ASSERT_TRUE(ask(11 * kBlock, 15 * kBlock, MappingPurpose::kBufferedWrite));
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 11 * kBlock, .length = 15 * kBlock},
                                       .done = 0}));
  rounds(10);
  EXPECT_EQ(mapped(), allocated + 9) << "nothing is unmapped that somebody may have wanted";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, ItIsGivenBackWhereOthersFindNoRoom) {
  fill_volume();
  EXPECT_EQ(mapped(), 11U);
  EXPECT_FALSE(cache_.forgotten.empty());
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Who is given a mapping of it again may write there without a word.
TEST_F(MappedAhead, ItStaysWhereTheCallerAsksAgainBeforeItIsGone) {
  const auto ahead = mapped();
  cache_.behind_forget = [this](InodeNumber) {
    ASSERT_TRUE(ask(11 * kBlock, kBlock, MappingPurpose::kRead));
  };
  rounds(2);
  cache_.behind_forget = {};
  rounds(7);
  EXPECT_EQ(mapped(), ahead);
  // Once it is forgotten again, and nobody asks.
  rounds(8);
  EXPECT_EQ(mapped(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, WhereOthersFindNoRoomWhoAsksAgainIsGivenWhatHeNeeds) {
  cache_.behind_forget = [this, file = file_](InodeNumber number) {
    if (number != file) return;
    const auto given = service().map(file, {.range = {.offset = 11 * kBlock, .length = kBlock},
                                            .purpose = MappingPurpose::kBufferedWrite});
    ASSERT_TRUE(given);
    EXPECT_EQ(given->offset + given->length, 12 * kBlock);
  };
  fill_volume();
  EXPECT_EQ(mapped(), 12U);
  for (const auto& [offset, mapping] : cache_.kept_of[file_])
    EXPECT_LE(mapping.offset + mapping.length, 12 * kBlock);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// And a write that ends short does not make it less.
TEST_F(MappedAhead, WhereOthersFindNoRoomWhatWasHandedOverAgainStays) {
  cache_.behind_forget = [this, file = file_](InodeNumber number) {
    if (number != file) return;
    const ByteRange range{.offset = 11 * kBlock, .length = 4 * kBlock};
    ASSERT_TRUE(service().map(file, {.range = range, .purpose = MappingPurpose::kBufferedWrite}));
    ASSERT_TRUE(
        service().finish(file, {.purpose = MappingPurpose::kBufferedWrite, .range = range, .done = 0}));
  };
  fill_volume();
  EXPECT_EQ(mapped(), 15U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, WhatWasHandedOverAgainStaysWhereTheWriteEndedShort) {
  const auto ahead = mapped();
  rounds(2);
  const ByteRange range{.offset = 11 * kBlock, .length = (ahead - 11) * kBlock};
  ASSERT_TRUE(ask(range.offset, range.length, MappingPurpose::kBufferedWrite));
  ASSERT_TRUE(
      service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite, .range = range, .done = 0}));
  rounds(7);
  EXPECT_EQ(mapped(), ahead);
  rounds(8);
  EXPECT_EQ(mapped(), 11U) << "once it was forgotten again";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, AWriteInTheMiddleThatEndsShortDoesNotTouchIt) {
  const auto ahead = mapped();
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 0, .length = 2 * kBlock},
                                       .done = kBlock}));
  EXPECT_EQ(mapped(), ahead);
  EXPECT_EQ(blocks(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// While it is being taken back, who asks for what lies behind it is answered all the same.
TEST_F(MappedAhead, WhereOthersFindNoRoomEveryAnswerHoldsWhatWasAskedFor) {
  cache_.behind_forget = [this, file = file_](InodeNumber number) {
    if (number != file) return;
    for (const std::uint64_t block : {0, 10, 11, 12, 20, 26})
      for (const auto purpose : {MappingPurpose::kRead, MappingPurpose::kWriteBack, MappingPurpose::kZero}) {
        const auto given = service().map(
            file, {.range = {.offset = block * kBlock, .length = 2 * kBlock}, .purpose = purpose});
        ASSERT_TRUE(given) << block;
        EXPECT_LE(given->offset, block * kBlock) << block;
        EXPECT_GT(given->offset + given->length, block * kBlock) << block;
      }
  };
  fill_volume();
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedAhead, APunchAcrossTheEndLeavesTheCountRight) {
  ASSERT_TRUE(change_range(RangeChange::kPunchHole, {.offset = 8 * kBlock, .length = 12 * kBlock}));
  EXPECT_GE(blocks(), 8U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// The second one comes when the first has begun; and nothing is found, since all of it is asked for again.
TEST_F(MappedAhead, WhoFindsNoRoomMeanwhileTakesTheResultOfWhoDoes) {
  const InodeNumber other = volume_->make_file(kRootInode, "other");
  const std::uint64_t ahead = mapped();
  cache_.keeps = false;
  std::thread second;
  Result<DataMapping> given = fail(EIO);
  cache_.behind_forget = [&, file = file_](InodeNumber) {
    if (second.joinable()) return;
    const ByteRange all{.offset = 11 * kBlock, .length = (ahead - 11) * kBlock};
    ASSERT_TRUE(service().map(file, {.range = all, .purpose = MappingPurpose::kRead}));
    second = std::thread([&] {
      given = service().map(
          other, {.range = {.offset = 0, .length = kBlock}, .purpose = MappingPurpose::kDirectWrite});
    });
  };
  fill_volume();
  ASSERT_TRUE(second.joinable());
  second.join();
  EXPECT_EQ(given.error(), Errno(ENOSPC));
  EXPECT_EQ(cache_.forgotten.size(), 1U) << "one round for both";
  EXPECT_EQ(mapped(), ahead);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Nothing is done then, and nothing becomes the file's for good.
TEST_F(MappedAhead, APunchBehindTheEndAndWhatIsRefusedLeaveItToBeGivenBack) {
  const auto ahead = mapped();
  ASSERT_TRUE(change_range(RangeChange::kPunchHole, {.offset = 12 * kBlock, .length = 100 * kBlock}));
  EXPECT_EQ(
      change_range(RangeChange::kAllocate, {.offset = 8 * kBlock, .length = std::uint64_t{1} << 45}).error(),
      Errno(EFBIG));
  EXPECT_EQ(change_range(RangeChange::kAllocate, {.offset = 8 * kBlock, .length = ~std::uint64_t{0}}).error(),
            Errno(EFBIG));
  EXPECT_EQ(mapped(), ahead);
  EXPECT_EQ(blocks(), 11U);
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(mapped(), 11U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Where it is not blocks that are wanting, nothing is gained by giving them back.
TEST_F(MappedAhead, AnAttributeThatIsTooLongTakesNothingBack) {
  const auto ahead = mapped();
  const std::string value(5000, 'x');
  EXPECT_EQ(volume_->fs()
                .set_xattr(file_, "user.long", std::as_bytes(std::span(value)), XattrMode::kCreateOrReplace,
                           SetgidBit::kKeep)
                .error(),
            Errno(ENOSPC));
  EXPECT_TRUE(cache_.forgotten.empty());
  EXPECT_EQ(mapped(), ahead);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// What is kept for root is not free to others.
TEST_F(MappedFile, WhereUsersHaveLittleRoomLittleIsGivenEarly) {
  mount("-t ext4 -b 4096 -m 30");
  auto& fs = volume_->fs();
  file_ = volume_->make_file(kRootInode, "rest");
  constexpr std::uint64_t kLeft = 40;
  ASSERT_TRUE(change_range(RangeChange::kAllocate,
                           {.offset = 0, .length = (fs.statistics()->available_blocks - kLeft) * kBlock}));
  ASSERT_TRUE(fs.sync());
  file_ = volume_->make_file(kRootInode, "file");
  ASSERT_TRUE(fs.set_attributes(file_, {.uid = 1000, .gid = 1000}));
  resize(30 * kBlock);
  ASSERT_TRUE(ask(20 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_EQ(mapped(), 1U);
  ASSERT_TRUE(ask(30 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_LE(mapped(), 2 + kLeft / 8);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// A direct write may be on its way to it, of which nobody has heard yet.
TEST_F(MappedAhead, ItStaysWhereTheFileIsWrittenDirectly) {
  write(11 * kBlock, std::string(kBlock, 'x'));
  const auto ahead = mapped();
  rounds(10);
  fill_volume();
  EXPECT_EQ(mapped(), ahead);
  volume_->fs().forget(file_, 1);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(mapped(), 12U) << "the kernel itself knows that there is none";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// A hole of 100 blocks between two that are written.
class MappedBeside : public MappedFile {
 protected:
  static constexpr std::uint64_t kUnit = 16;

  void mount_with_hole(const std::string& options = "-t ext4 -b 4096") {
    mount(options);
    file_ = volume_->make_file(kRootInode, "file");
    write(0, std::string(kBlock, 'x'), MappingPurpose::kBufferedWrite);
    write(101 * kBlock, std::string(kBlock, 'x'), MappingPurpose::kDirectWrite);
    volume_->fs().forget(file_, 1);
    look_up();
    ASSERT_EQ(mapped(), 2U);
  }
  void look_up() { file_ = volume_->fs().lookup(kRootInode, "file")->inode; }
};

TEST_F(MappedBeside, APunchKeepsNoBlockThatItLeavesThere) {
  mount_with_hole();
  ASSERT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  ASSERT_TRUE(change_range(RangeChange::kPunchHole, {.offset = 33 * kBlock + 100, .length = 1000}));
  ASSERT_TRUE(change_range(RangeChange::kPunchHole, {.offset = 34 * kBlock + 100, .length = 2 * kBlock}));
  EXPECT_EQ(mapped(), 2 + kUnit - 1);
  EXPECT_EQ(blocks(), 3U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, AWriteInAHoleIsGivenItsAlignedNeighbourhood) {
  mount_with_hole();
  const auto given = ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(given);
  EXPECT_EQ(given->kind, Kind::kUnwritten);
  EXPECT_EQ(given->offset, 32 * kBlock);
  EXPECT_EQ(given->length, kUnit * kBlock);
  EXPECT_EQ(given->place, DataMapping::Place::kRemembered);
  EXPECT_EQ(mapped(), 2 + kUnit);
  EXPECT_EQ(blocks(), 3U) << "callers see what they asked for";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, ItEndsWithTheHole) {
  mount_with_hole();
  ASSERT_TRUE(ask(3 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_EQ(mapped(), 2 + 15U) << "block 0 is written";
  ASSERT_TRUE(ask(100 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_EQ(mapped(), 2 + 15U + 5U) << "so is block 101";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, OnlyWritesByPagesAreGivenIt) {
  mount_with_hole();
  ASSERT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kDirectWrite));
  EXPECT_EQ(mapped(), 3U) << "what a direct write may be doing there nobody could tell";
  ASSERT_TRUE(ask(60 * kBlock, kBlock, MappingPurpose::kWriteBack));
  EXPECT_EQ(mapped(), 4U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, WhatNobodyCameToIsGivenBackAfterAWhileAndTheCallerForgetsItFirst) {
  mount_with_hole();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  cache_.forgotten.clear();
  rounds(2);
  ASSERT_EQ(cache_.forgotten.size(), 1U);
  EXPECT_EQ(cache_.forgotten[0].offset, 32 * kBlock);
  EXPECT_EQ(cache_.forgotten[0].length, MappingCache::kToEnd);
  rounds(5);
  EXPECT_EQ(mapped(), 2 + kUnit);
  // A write that comes now has to ask, and keeps what it is given.
  ASSERT_TRUE(ask(35 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  rounds(20);
  EXPECT_EQ(mapped(), 4U);
  EXPECT_EQ(content(), std::string(kBlock, 'x') + std::string(39 * kBlock, '\0') + std::string(kBlock, 'a') +
                           std::string(60 * kBlock, '\0') + std::string(kBlock, 'x'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, ABusyFileGivesItBackToo) {
  mount_with_hole();
  ASSERT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  for (int i = 0; i < 13; ++i) {
    rounds(1);
    ASSERT_TRUE(ask(0, kBlock, MappingPurpose::kBufferedWrite));
    // What was given while that was leaving has its own turn.
    if (i == 4) {
      ASSERT_TRUE(ask(70 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
    }
  }
  EXPECT_EQ(mapped(), 2 + 2 * kUnit);
  rounds(1);
  EXPECT_EQ(mapped(), 2 + 1 + kUnit);
  rounds(13);
  EXPECT_EQ(mapped(), 2 + 2U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// The caller has a mapping of the others again, and may write there without a word.
TEST_F(MappedBeside, ItStaysForAnotherTurnWhereOneOfItsBlocksWasAskedFor) {
  for (const auto purpose : {MappingPurpose::kBufferedWrite, MappingPurpose::kRead}) {
    mount_with_hole();
    ASSERT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
    rounds(5);
    const auto given = ask(32 * kBlock, kBlock, purpose);
    ASSERT_TRUE(given);
    ASSERT_EQ(given->length, kUnit * kBlock);
    rounds(10);
    EXPECT_EQ(mapped(), 2 + kUnit);
    put(given->device_offset + 2 * kBlock, std::string(kBlock, 'b'));
    complete(34 * kBlock, kBlock, true);
    EXPECT_EQ(cache_.forgotten.back().offset, (purpose == MappingPurpose::kRead ? 32 : 33) * kBlock);
    rounds(9);
    EXPECT_EQ(mapped(), purpose == MappingPurpose::kRead ? 4U : 5U);
    EXPECT_EQ(volume_->unmount_and_check(), "");
  }
}

TEST_F(MappedBeside, ItStaysWhereTheCallerDoesNotForget) {
  mount_with_hole();
  ASSERT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  cache_.forgets = false;
  rounds(20);
  EXPECT_EQ(mapped(), 2 + kUnit);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Without a word: by the mapping that was handed over for another's sake.
TEST_F(MappedBeside, WhatWasWrittenMeanwhileStays) {
  mount_with_hole();
  const auto given = ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(given);
  put(given->device_offset + 2 * kBlock, std::string(kBlock, 'b'));
  complete(34 * kBlock, kBlock, true);
  rounds(14);
  EXPECT_EQ(mapped(), 4U);
  EXPECT_EQ(volume_->read(file_, 34 * kBlock, kBlock), std::string(kBlock, 'b'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, ItGoesWhenTheInodeIsForgotten) {
  mount_with_hole();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  volume_->fs().forget(file_, 1);
  look_up();
  EXPECT_EQ(mapped(), 3U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, ItGoesWithTheUnmount) {
  mount_with_hole();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  EXPECT_EQ(volume_->unmount_and_check(), "");
  mount_again();
  look_up();
  EXPECT_EQ(mapped(), 3U);
}

TEST_F(MappedBeside, WhatSomebodyAsksForStays) {
  mount_with_hole();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(change_range(RangeChange::kAllocate, {.offset = 30 * kBlock, .length = 4 * kBlock}));
  rounds(14);
  EXPECT_EQ(mapped(), 3 + 4U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, WhatIsAskedForWhereAHoleWasPunchedIsCounted) {
  mount_with_hole();
  write(37 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(change_range(RangeChange::kPunchHole, {.offset = 32 * kBlock, .length = kUnit * kBlock}));
  EXPECT_EQ(mapped(), 2U);
  // One may be a node of the map.
  const auto before = blocks();
  EXPECT_LE(before, 3U);
  ASSERT_TRUE(ask(35 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_EQ(mapped(), 2 + kUnit);
  EXPECT_EQ(blocks(), before + 1);
  rounds(14);
  EXPECT_EQ(mapped(), 3U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// The caller's pages are in memory, and what they are written to may have been given to others.
TEST_F(MappedBeside, WriteBackFindsRoomInTheRootsReserve) {
  mount_with_hole("-t ext4 -b 4096 -m 20");
  constexpr Caller kUser{.uid = 1000, .gid = 1000};
  ASSERT_TRUE(volume_->fs().set_attributes(file_, {.uid = kUser.uid, .gid = kUser.gid}));
  fill_volume(kUser);
  EXPECT_EQ(ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite).error(), Errno(ENOSPC));
  EXPECT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kWriteBack));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, ACutTakesItAlong) {
  mount_with_hole();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  resize(36 * kBlock);
  EXPECT_EQ(mapped(), 1 + 4U);
  rounds(14);
  EXPECT_EQ(mapped(), 1U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Others' blocks may lie where it was by then.
TEST_F(MappedBeside, ItStaysWhereTheFilesBlocksMove) {
  mount_with_hole();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(change_range(RangeChange::kAllocate, {.offset = 60 * kBlock, .length = 20 * kBlock}));
  ASSERT_TRUE(change_range(RangeChange::kCollapse, {.offset = 2 * kBlock, .length = 28 * kBlock},
                           EndOfFile::kMayMove));
  rounds(20);
  EXPECT_EQ(mapped(), 2 + kUnit + 20);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, OfAFileThatIsWrittenDirectlyItStays) {
  mount_with_hole();
  ASSERT_TRUE(ask(40 * kBlock, kBlock, MappingPurpose::kBufferedWrite));
  ASSERT_TRUE(ask(60 * kBlock, kBlock, MappingPurpose::kDirectWrite));
  rounds(20);
  EXPECT_EQ(mapped(), 2 + kUnit + 1);
  volume_->fs().forget(file_, 1);
  look_up();
  EXPECT_EQ(mapped(), 2 + 2U) << "what was asked for stays, written or not";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedBeside, WithClustersWhatIsUsedInPartIsNotGivenBack) {
  mount_with_hole("-t ext4 -b 4096 -O bigalloc -C 32768");
  const auto before = blocks();
  write(40 * kBlock, std::string(kBlock, 'a'), MappingPurpose::kBufferedWrite);
  // A cluster for it, and one for a node of the map.
  EXPECT_EQ(blocks(), before + 2 * 8);
  rounds(14);
  EXPECT_EQ(mapped(), 3U);
  EXPECT_EQ(blocks(), before + 2 * 8);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, WhatAllFilesHaveBesideIsAPartOfWhatIsFree) {
  mount();
  const std::uint64_t free = volume_->fs().statistics()->free_blocks;
  file_ = volume_->make_file(kRootInode, "file");
  resize(std::uint64_t{1} << 30);
  constexpr std::uint64_t kWrites = 800;
  for (std::uint64_t i = 0; i < kWrites; ++i)
    ASSERT_TRUE(ask(i << 20, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_GE(volume_->fs().statistics()->free_blocks, free - free / 4 - kWrites - 10);
  EXPECT_EQ(blocks(), kWrites + 3) << "and the nodes of its map";
  EXPECT_LT(mapped(), 16 * kWrites) << "the last ones are given nothing";
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
