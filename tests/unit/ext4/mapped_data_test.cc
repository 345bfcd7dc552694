// SPDX-License-Identifier: GPL-2.0-or-later
// The mappings of files whose data the caller moves, and what it tells of its writes.
#include <fmt/format.h>
#include <sys/stat.h>

#include "server/ext4/ext2.h"
#include "tests/unit/ext4/mapped_file.h"

namespace fuse4fs::ext4 {
namespace {

TEST_F(MappedFile, WhatIsWrittenIsThereAfterwards) {
  for (const auto* const form :
       {"-t ext4 -b 4096", "-t ext4 -b 4096 -O ^extents,^64bit", "-t ext4 -b 4096 -O bigalloc -C 16384",
        "-t ext4 -b 4096 -O inline_data", "-t ext4 -b 4096 -O ^has_journal", "-t ext2 -b 4096"}) {
    SCOPED_TRACE(form);
    mount(form);
    file_ = volume_->make_file(kRootInode, "file");
    std::string bytes;
    for (int i = 0; i < 20'000; ++i) bytes += fmt::format("{:07} ", i);
    write(0, bytes.substr(0, 50'000));
    write(50'000, bytes.substr(50'000));
    write(300'000, "behind a hole");
    bytes.resize(300'000);
    bytes += "behind a hole";
    EXPECT_EQ(content(), bytes);
    ASSERT_TRUE(sync());
    ASSERT_EQ(volume_->unmount_and_check(), "");
    mount_again();
    file_ = volume_->fs().lookup(kRootInode, "file")->inode;
    EXPECT_EQ(content(), bytes);
    EXPECT_EQ(volume_->unmount_and_check(), "");
  }
}

TEST_F(MappedFile, NewBlocksAreUnwrittenUntilTheirDataIsThere) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  const auto given = ask(0, 3 * kBlock, MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(given);
  EXPECT_EQ(given->kind, Kind::kUnwritten);
  EXPECT_EQ(given->metadata, DataMapping::Metadata::kPending);
  EXPECT_EQ(given->length, 3 * kBlock) << "a first write is as a rule the only one";
  EXPECT_EQ(size(), 0U);
  complete(0, kBlock + 5, true);
  EXPECT_EQ(size(), kBlock + 5);
  const auto first = ask(0, 1, MappingPurpose::kReport);
  EXPECT_EQ(first->kind, Kind::kWritten);
  EXPECT_EQ(first->length, 2 * kBlock);
  const auto last = ask(2 * kBlock, 1, MappingPurpose::kRead);
  EXPECT_EQ(last->kind, Kind::kUnwritten);
  EXPECT_EQ(last->device_offset, given->device_offset + 2 * kBlock);
  ASSERT_TRUE(sync());
  EXPECT_EQ(ask(0, 1, MappingPurpose::kRead)->metadata, DataMapping::Metadata::kStable);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, OnlyWritesAllocate) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  resize(10 * kBlock);
  for (const auto purpose : {MappingPurpose::kRead, MappingPurpose::kReport, MappingPurpose::kZero}) {
    const auto found = ask(5 * kBlock + 7, 3, purpose);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->kind, Kind::kHole);
    EXPECT_EQ(found->offset, 5 * kBlock);
  }
  EXPECT_EQ(blocks(), 0U);
  for (const auto purpose : {MappingPurpose::kBufferedWrite, MappingPurpose::kDirectWrite,
                             MappingPurpose::kWriteBack, MappingPurpose::kUnshare})
    EXPECT_EQ(ask((1 + static_cast<std::uint64_t>(purpose)) * kBlock, 1, purpose)->kind, Kind::kUnwritten);
  EXPECT_EQ(blocks(), 4U);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, AHoleReachesToTheNextExtentAndBeyondTheEnd) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(100 * kBlock, std::string(kBlock, 'x'));
  EXPECT_EQ(ask(3 * kBlock, 1, MappingPurpose::kReport)->length, 97 * kBlock);
  const auto behind = ask(200 * kBlock, 1, MappingPurpose::kReport);
  EXPECT_EQ(behind->kind, Kind::kHole);
  EXPECT_GT(behind->length, std::uint64_t{1} << 40);
  const auto beyond_all = ask(std::uint64_t{1} << 50, 1, MappingPurpose::kReport);
  EXPECT_EQ(beyond_all->kind, Kind::kHole);
  EXPECT_EQ(ask(std::uint64_t{1} << 50, 1, MappingPurpose::kBufferedWrite).error(), Errno(EFBIG));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Of the rest the kernel may have a mapping in its cache, which it has told of.
TEST_F(MappedFile, WhatIsReportedBeginsWhereItWasAskedFor) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, std::string(10 * kBlock, 'x'));
  const auto all = ask(0, 10 * kBlock, MappingPurpose::kReport);
  const auto rest = ask(7 * kBlock + 5, kBlock, MappingPurpose::kReport);
  EXPECT_EQ(rest->offset, 7 * kBlock);
  EXPECT_EQ(rest->length, 3 * kBlock);
  EXPECT_EQ(rest->device_offset, all->device_offset + 7 * kBlock);
  EXPECT_EQ(ask(7 * kBlock, kBlock, MappingPurpose::kRead)->offset, 0U) << "who uses it learns all of it";
}

// FIEMAP asks on to there, and must come to an end.
TEST_F(MappedFile, TheLastHoleThatIsReportedReachesAsFarAsNumbersDo) {
  for (const char* const options :
       {"-t ext4 -b 4096", "-t ext4 -b 1024", "-t ext2 -b 1024", "-t ext4 -O ^huge_file"}) {
    SCOPED_TRACE(options);
    mount(options);
    file_ = volume_->make_file(kRootInode, "file");
    resize(10 * kBlock);
    write(kBlock, std::string(kBlock, 'x'));
    constexpr std::uint64_t kLast = (std::uint64_t{1} << 63) - 1;
    int asked = 0;
    for (std::uint64_t at = 0; at < kLast && asked < 20; ++asked) {
      const auto found = ask(at, kLast - at, MappingPurpose::kReport);
      ASSERT_TRUE(found);
      ASSERT_LE(found->offset, at);
      ASSERT_GT(found->offset + found->length, at);
      at = found->offset + found->length;
    }
    EXPECT_LT(asked, 20);
    EXPECT_EQ(volume_->unmount_and_check(), "");
  }
}

TEST_F(MappedFile, OverwritesOfWrittenBlocksOnlyAreSaid) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, std::string(kBlock, 'x'));
  MappingRequest request{.range = {.offset = 0, .length = 1},
                         .purpose = MappingPurpose::kDirectWrite,
                         .allowed = MappingRequest::Allowed::kWrittenOnly};
  EXPECT_TRUE(service().map(file_, request));
  request.range.offset = kBlock;
  EXPECT_EQ(service().map(file_, request).error(), Errno(EAGAIN));
  EXPECT_EQ(blocks(), 1U);
}

TEST_F(MappedFile, SwapFilesAreRefused) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  EXPECT_EQ(ask(0, 1, MappingPurpose::kSwap).error(), Errno(EOPNOTSUPP));
}

// 1 GiB in writes of 1 MiB, with all mappings kept: what the kernel asks.
TEST_F(MappedFile, AFileThatGrowsAsksSeldom) {
  mount("-t ext4 -b 4096", "4G");
  file_ = volume_->make_file(kRootInode, "file");
  constexpr std::uint64_t kMiB = 1 << 20;
  constexpr std::uint64_t kSize = 1024 * kMiB;
  std::uint64_t end_of_kept = 0;
  for (std::uint64_t at = 0; at < kSize; at += kMiB) {
    while (end_of_kept < at + kMiB) {
      const auto given = ask(std::max(at, end_of_kept), kMiB, MappingPurpose::kBufferedWrite);
      ASSERT_TRUE(given);
      end_of_kept = given->offset + given->length;
    }
    ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                         .range = {.offset = at, .length = kMiB},
                                         .done = kMiB,
                                         .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  }
  EXPECT_LE(asked_, kSize / (32 * kMiB));
  for (std::uint64_t at = 0; at < kSize; at += 32 * kMiB) complete(at, 32 * kMiB, true);
  EXPECT_EQ(size(), kSize);
  EXPECT_GT(blocks(), kSize / kBlock) << "some are mapped ahead";
  asked_ = 0;
  for (std::uint64_t at = 0; at < kSize;) {
    const auto found = ask(at, 128 << 10, MappingPurpose::kRead);
    ASSERT_EQ(found->kind, Kind::kWritten);
    at = found->offset + found->length;
  }
  EXPECT_LE(asked_, kSize / (32 * kMiB)) << "to read it";
  ASSERT_EQ(volume_->unmount_and_check(), "");
  volume_->mount();
  // A block of them may be a node of the map.
  EXPECT_LE(volume_->fs().attributes(file_)->sectors, (kSize + kBlock) / 512)
      << "what was mapped ahead was given back";
}

TEST_F(MappedFile, TheErrorOfAForgottenFileIsToldBySync) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  (void)completed(0, kBlock, true, Errno(ENXIO));
  volume_->fs().forget(file_, 1);
  EXPECT_EQ(volume_->fs().sync().error(), Errno(ENXIO));
  EXPECT_TRUE(volume_->fs().sync());
}

// Who goes through a file need not ask for each of its extents.
TEST_F(MappedFile, OfAFragmentedFileManyExtentsAreGivenAtOnce) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  constexpr std::uint64_t kExtents = 500;
  for (std::uint64_t i = 0; i < kExtents; ++i) write(2 * i * kBlock, std::string(kBlock, 'x'));
  cache_.kept.clear();
  const auto read = [&](std::uint64_t at) {
    const auto found = cache_.kept.upper_bound(at);
    if (found != cache_.kept.begin() &&
        std::prev(found)->second.offset + std::prev(found)->second.length > at)
      return;
    EXPECT_TRUE(ask(at, kBlock, MappingPurpose::kRead));
  };
  asked_ = 0;
  for (std::uint64_t at = 0; at < size(); at += kBlock) read(at);
  EXPECT_LE(asked_, 9U) << "999 extents and holes: 1, then 1 and 8, 1 and 16, ... 1 and 340";
  cache_.kept.clear();
  asked_ = 0;
  for (std::uint64_t i = kExtents; i > 0; --i)
    EXPECT_TRUE(ask(2 * i * kBlock - kBlock, 1, MappingPurpose::kRead));
  EXPECT_LT(cache_.kept.size(), kExtents + 20) << "and nothing for nothing";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// The kernel keeps the size for itself when no extent has to be converted (an old trap of v7): END has told
// it.
TEST_F(MappedFile, ASizeThatOnlyEndToldIsThereAfterASync) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, "12345");
  put(ask(0, 1, MappingPurpose::kWriteBack)->device_offset + 5, "67890");
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 5, .length = 5},
                                       .done = 5,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  EXPECT_EQ(size(), 5U);
  ASSERT_TRUE(sync());
  EXPECT_EQ(content(), "1234567890");
  // And once cut, it is not what it was.
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 10, .length = 5},
                                       .done = 5,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  resize(3);
  ASSERT_TRUE(sync());
  EXPECT_EQ(content(), "123");
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Nor by a cut to a size that only the kernel has reached: what lies behind it goes.
TEST_F(MappedFile, ACutBelowASizeThatOnlyEndToldFreesWhatIsBehind) {
  mount("-t ext4 -b 4096 -O ^extents,^64bit");
  file_ = volume_->make_file(kRootInode, "file");
  const auto given = ask(0, 8 * kBlock, MappingPurpose::kBufferedWrite);
  ASSERT_TRUE(given);
  put(given->device_offset, std::string(8 * kBlock, 'x'));
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 0, .length = 8 * kBlock},
                                       .done = 8 * kBlock,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  resize(2 * kBlock);
  EXPECT_EQ(blocks(), 2U);
  resize(8 * kBlock);
  EXPECT_EQ(content(), std::string(2 * kBlock, 'x') + std::string(6 * kBlock, '\0'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, AnUnmountMakesSizesTrue) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, "12345");
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 5, .length = 5},
                                       .done = 5,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  ASSERT_EQ(volume_->unmount_and_check(), "");
  volume_->mount();
  EXPECT_EQ(volume_->fs().lookup(kRootInode, "file")->size, 10U);
}

TEST_F(MappedFile, AFailedWriteIsToldOnceAndShowsNothing) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  ASSERT_TRUE(ask(0, kBlock, MappingPurpose::kBufferedWrite));
  EXPECT_EQ(completed(0, kBlock, true, Errno(EIO)), 0U);
  EXPECT_EQ(ask(0, 1, MappingPurpose::kRead)->kind, Kind::kUnwritten);
  EXPECT_EQ(volume_->fs().sync().error(), Errno(EIO));
  EXPECT_TRUE(volume_->fs().sync()) << "once";
  EXPECT_EQ(sync().error(), Errno(EIO)) << "and to who asks for the file";
  EXPECT_TRUE(sync());
  EXPECT_EQ(completed(0, kBlock, true, Errno(EIO)), 0U);
  EXPECT_EQ(volume_->fs().sync().error(), Errno(EIO)) << "another one";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// What is made there is on the medium, whatever became of somebody's data.
TEST_F(MappedFile, AFailedWriteIsNothingToASynchronousDirectory) {
  mount();
  auto& fs = volume_->fs();
  const auto directory = volume_->make_directory(kRootInode, "directory");
  ASSERT_TRUE(fs.set_flags(directory, fs.flags(directory)->flags | EXT2_DIRSYNC_FL));
  file_ = volume_->make_file(kRootInode, "file");
  EXPECT_EQ(completed(0, kBlock, true, Errno(EIO)), 0U);
  EXPECT_TRUE(fs.make(directory, "name", {.mode = S_IFREG | 0644}));
  EXPECT_EQ(fs.sync().error(), Errno(EIO));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, CompletionsMayRepeatAndNameNoHoles) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, std::string(2 * kBlock, 'x'));
  complete(0, 2 * kBlock, true);
  resize(2 * kBlock);
  EXPECT_EQ(completed(0, 5 * kBlock, true).error(), Errno(EIO)) << "where did it go?";
  EXPECT_EQ(sync().error(), Errno(EIO));
  EXPECT_TRUE(sync()) << "it was told";
  EXPECT_EQ(content().substr(0, 2 * kBlock), std::string(2 * kBlock, 'x'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, OneExtentIsMadeOfManyCompletions) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  for (std::uint64_t i = 0; i < 200; ++i) write(i * kBlock, std::string(kBlock, 'x'));
  const auto found = ask(0, 1, MappingPurpose::kReport);
  EXPECT_EQ(found->length, 200 * kBlock);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, TheEdgesOfRangesAreTheCallers) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, std::string(10 * kBlock, 'x'));
  const auto change = [&](RangeChange what) {
    return change_range(what, {.offset = kBlock + 100, .length = 3 * kBlock});
  };
  ASSERT_TRUE(change(RangeChange::kPunchHole));
  EXPECT_EQ(ask(kBlock, 1, MappingPurpose::kZero)->kind, Kind::kWritten);
  EXPECT_EQ(ask(2 * kBlock, 1, MappingPurpose::kZero)->kind, Kind::kHole);
  EXPECT_EQ(volume_->read(file_, kBlock + 100, 3), "xxx") << "the kernel makes zeros of it";
  ASSERT_TRUE(change(RangeChange::kZero));
  EXPECT_EQ(ask(2 * kBlock, 1, MappingPurpose::kZero)->kind, Kind::kUnwritten);
  EXPECT_EQ(volume_->read(file_, kBlock + 100, 3), "xxx");
  resize(kBlock + 10);
  resize(2 * kBlock);
  EXPECT_EQ(volume_->read(file_, kBlock + 10, 3), "xxx") << "likewise";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

class MappedInline : public MappedFile {
 protected:
  // A file with "small" in its inode. Our own writes never put it there.
  MappedInline() {
    mount("-t ext4 -b 4096 -O inline_data");
    volume_->unmount();
    EXPECT_EQ(run(fmt::format("echo -n small >{0}.content && debugfs -w -R 'write {0}.content file' {0}; "
                              "rm {0}.content",
                              volume_->image().string()))
                  .status,
              0);
  }
  void mount_again() {
    MappedFile::mount_again();
    file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  }
};

// The kernel's ext4 lengthens such a file as far as it is asked to, and the caller's memory is a block.
TEST_F(MappedInline, WhatLiesInTheInodeOfALongerFileMovesOutToBeRead) {
  constexpr std::uint64_t kSize = 1 << 30;
  ASSERT_EQ(run(fmt::format("debugfs -w -R 'sif file size {}' {}", kSize, volume_->image().string())).status,
            0);
  mount_again();
  EXPECT_EQ(ask(0, kSize, MappingPurpose::kReport)->kind, Kind::kInline);
  EXPECT_EQ(ask(10 * kBlock, kBlock, MappingPurpose::kRead)->kind, Kind::kHole);
  const auto outside = ask(0, kBlock, MappingPurpose::kRead);
  ASSERT_EQ(outside->kind, Kind::kWritten);
  std::string there(6, '?');
  ASSERT_EQ(::pread(image_.get(), there.data(), 6, static_cast<off_t>(outside->device_offset)), 6);
  EXPECT_EQ(there, std::string("small\0", 6));
  EXPECT_EQ(ask(kBlock, kBlock, MappingPurpose::kRead)->kind, Kind::kHole);
  EXPECT_EQ(size(), kSize);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// The kernel does not hold back who reads.
TEST_F(MappedInline, NothingMovesOutOfAFrozenVolume) {
  ASSERT_EQ(run(fmt::format("debugfs -w -R 'sif file size 5000' {}", volume_->image().string())).status, 0);
  mount_again();
  ASSERT_TRUE(volume_->fs().freeze());
  const auto frozen = volume_->image_bytes();
  EXPECT_EQ(ask(0, kBlock, MappingPurpose::kRead).error(), Errno(EIO));
  ASSERT_TRUE(volume_->fs().sync());
  EXPECT_TRUE(volume_->image_bytes() == frozen);
  ASSERT_TRUE(volume_->fs().thaw());
  EXPECT_EQ(ask(0, kBlock, MappingPurpose::kRead)->kind, Kind::kWritten);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedInline, WhereNothingMayBeWrittenALongerOneIsRefusedInWords) {
  ASSERT_EQ(run(fmt::format("debugfs -w -R 'sif file size 5000' {}", volume_->image().string())).status, 0);
  volume_->mount({.access = cache::Access::kReadOnly});
  begin();
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(ask(0, kBlock, MappingPurpose::kRead).error(), Errno(EIO));
  ASSERT_FALSE(volume_->events.notices.empty());
  EXPECT_NE(volume_->events.notices.back().find("noiomap"), std::string::npos);
}

TEST_F(MappedInline, WhatLiesInTheInodeIsReadThereAndMovesOutToBeWritten) {
  mount_again();
  const auto inside = ask(0, 1, MappingPurpose::kRead);
  ASSERT_EQ(inside->kind, Kind::kInline);
  EXPECT_EQ(inside->length, kBlock);
  EXPECT_EQ(ask(kBlock, 1, MappingPurpose::kRead)->kind, Kind::kHole);
  EXPECT_EQ(content(), "small");
  const auto outside = ask(2, 3, MappingPurpose::kBufferedWrite);
  ASSERT_EQ(outside->kind, Kind::kWritten) << "with what it held";
  std::string there(5, '?');
  ASSERT_EQ(::pread(image_.get(), there.data(), 5, static_cast<off_t>(outside->device_offset)), 5);
  EXPECT_EQ(there, "small");
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, IndirectMapsGiveZeros) {
  mount("-t ext4 -b 4096 -O ^extents,^64bit");
  file_ = volume_->make_file(kRootInode, "old");
  write(0, std::string(1 << 20, 'x'));
  ASSERT_TRUE(volume_->fs().unlink(kRootInode, "old"));
  volume_->fs().forget(file_, 1);
  ASSERT_TRUE(volume_->fs().write_back());
  file_ = volume_->make_file(kRootInode, "file");
  for (std::uint64_t at = 0; at < 1 << 20;) {
    const auto given = ask(at, (1 << 20) - at, MappingPurpose::kBufferedWrite);
    ASSERT_TRUE(given);
    ASSERT_EQ(given->kind, Kind::kWritten);
    at = given->offset + given->length;
  }
  complete(0, 1 << 20, false);
  EXPECT_EQ(content(), std::string(1 << 20, '\0'));
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Kernels of v7 may keep to themselves how far they came.
TEST_F(MappedFile, ADirectWriteThatMovesTheEndIsReportedAlsoWhereNothingIsConverted) {
  const auto report = [&](std::uint64_t offset, std::uint64_t length) {
    const auto found = ask(offset, length, MappingPurpose::kDirectWrite);
    EXPECT_EQ(found->report == DataMapping::Report::kAlways, found->place == DataMapping::Place::kHere);
    return found->report;
  };
  constexpr auto kAlways = DataMapping::Report::kAlways, kIfUnwritten = DataMapping::Report::kIfUnwritten;
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, "12345");
  EXPECT_EQ(report(512, 512), kAlways);
  EXPECT_EQ(report(kBlock, kBlock), kIfUnwritten);
  mount("-t ext4 -b 4096 -O ^extents,^64bit");
  file_ = volume_->make_file(kRootInode, "file");
  EXPECT_EQ(report(0, kBlock), kAlways);
  write(0, std::string(2 * kBlock, 'x'));
  EXPECT_EQ(report(kBlock, kBlock), kIfUnwritten);
  EXPECT_EQ(report(kBlock, 2 * kBlock), kAlways);
}

// By what it remembers the caller writes up to the block's end without a word, and may not report it either.
TEST_F(MappedFile, TheWrittenBlockThatHoldsTheEndIsNotRemembered) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, std::string(5 * kBlock + 7, 'x'));
  const auto length_of_kept = [&] {
    const auto found = cache_.kept.find(0);
    return found == cache_.kept.end() ? 0 : found->second.length;
  };
  for (const auto purpose : {MappingPurpose::kRead, MappingPurpose::kBufferedWrite,
                             MappingPurpose::kDirectWrite, MappingPurpose::kWriteBack}) {
    cache_.kept.clear();
    const auto found = ask(0, 1, purpose);
    EXPECT_EQ(found->kind, Kind::kWritten);
    EXPECT_EQ(found->place, DataMapping::Place::kRemembered);
    EXPECT_EQ(length_of_kept(), 5 * kBlock);
    const auto last = ask(5 * kBlock, 1, purpose);
    EXPECT_EQ(last->kind, Kind::kWritten);
    EXPECT_EQ(last->place, DataMapping::Place::kHere);
    EXPECT_EQ(cache_.kept.size(), 1U);
  }
  // In memory it has grown up to there, and that was told.
  ASSERT_TRUE(service().finish(file_, {.purpose = MappingPurpose::kBufferedWrite,
                                       .range = {.offset = 5 * kBlock, .length = kBlock},
                                       .done = kBlock,
                                       .end_of_file = FinishedOperation::EndOfFile::kMoved}));
  EXPECT_EQ(ask(5 * kBlock, 1, MappingPurpose::kRead)->place, DataMapping::Place::kRemembered);

  cache_.forgotten.clear();
  resize(3 * kBlock);
  EXPECT_TRUE(cache_.forgotten.empty()) << "the caller knows by itself what is gone";
  resize(2 * kBlock + 1);
  ASSERT_EQ(cache_.forgotten.size(), 1U);
  EXPECT_EQ(cache_.forgotten[0].offset, 2 * kBlock);
  EXPECT_EQ(cache_.forgotten[0].length, kBlock);
  EXPECT_EQ(ask(0, 3 * kBlock, MappingPurpose::kRead)->length, 2 * kBlock);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Without extents new blocks are written ones at once.
TEST_F(MappedFile, AHoleBehindTheEndIsForgottenWhereItIsFilledWithWrittenBlocks) {
  mount("-t ext4 -b 4096 -O ^extents,^64bit");
  file_ = volume_->make_file(kRootInode, "file");
  write(0, std::string(kBlock, 'x'));
  ASSERT_EQ(ask(kBlock, 1, MappingPurpose::kRead)->place, DataMapping::Place::kRemembered);
  ASSERT_TRUE(cache_.kept.contains(kBlock));
  for (const auto purpose : {MappingPurpose::kBufferedWrite, MappingPurpose::kDirectWrite}) {
    ASSERT_EQ(ask(2 * kBlock, 1, MappingPurpose::kRead)->kind, Kind::kHole);
    const auto given = ask(kBlock, kBlock, purpose);
    EXPECT_EQ(given->kind, Kind::kWritten);
    EXPECT_EQ(given->place, DataMapping::Place::kHere);
    EXPECT_FALSE(cache_.kept.contains(kBlock));
    resize(kBlock);
    ASSERT_EQ(ask(kBlock, 1, MappingPurpose::kRead)->kind, Kind::kHole);
  }
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, WhatIsBehindTheLargestFileIsRefusedBeforeTheCallerGrowsIt) {
  for (const char* const options : {"-t ext4 -b 4096", "-t ext2 -b 1024"}) {
    mount(options);
    file_ = volume_->make_file(kRootInode, "file");
    const std::uint64_t largest = service().mapping_limits().largest_file;
    EXPECT_TRUE(ask(0, largest, MappingPurpose::kZero)) << options;
    EXPECT_EQ(ask(0, largest + 1, MappingPurpose::kZero).error(), Errno(EFBIG)) << options;
    const auto hole = ask(kBlock, 1, MappingPurpose::kRead);
    EXPECT_LE(hole->offset + hole->length, largest) << options;
  }
}

TEST_F(MappedFile, AFullVolumeSaysSoAndKeepsItsPromises) {
  mount("-t ext4 -b 4096 -m 0", "16M");
  file_ = volume_->make_file(kRootInode, "file");
  std::uint64_t promised = 0;
  Result<DataMapping> given = fail(EIO);
  while ((given = ask(promised, 1 << 20, MappingPurpose::kBufferedWrite)))
    promised = given->offset + given->length;
  EXPECT_EQ(given.error(), Errno(ENOSPC));
  EXPECT_GT(promised, 8U << 20);
  for (std::uint64_t at = 0; at < promised; at += kBlock)
    ASSERT_EQ(ask(at, kBlock, MappingPurpose::kWriteBack)->kind, Kind::kUnwritten);
  complete(0, promised, true);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(MappedFile, WhatTheCallerDoesNotKeepIsAnsweredHere) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  EXPECT_EQ(ask(0, 1, MappingPurpose::kBufferedWrite)->place, DataMapping::Place::kRemembered);
  cache_.keeps = false;
  EXPECT_EQ(ask(0, 1, MappingPurpose::kRead)->place, DataMapping::Place::kHere);
  cache_.keeps = true;
  cache_.kept.clear();
  EXPECT_EQ(ask(0, 1, MappingPurpose::kReport)->place, DataMapping::Place::kHere);
  EXPECT_TRUE(cache_.kept.empty()) << "FIEMAP would push out what is used";
}

TEST_F(MappedFile, LimitsAreTheVolumes) {
  mount();
  auto limits = service().mapping_limits();
  EXPECT_EQ(limits.largest_file, ((std::uint64_t{1} << 32) - 1) * kBlock);
  EXPECT_EQ(limits.latest_time, 15032385535) << "the year 2446";
  EXPECT_EQ(limits.earliest_time, -2147483648);
  EXPECT_EQ(limits.most_links, 65000U);
  EXPECT_NE(limits.uuid, decltype(limits.uuid){});
  mount("-t ext2 -b 4096 -I 128");
  limits = service().mapping_limits();
  EXPECT_EQ(limits.latest_time, 2147483647);
}

TEST_F(MappedFile, NothingIsGivenOfAReadOnlyVolume) {
  mount();
  file_ = volume_->make_file(kRootInode, "file");
  write(0, "content");
  volume_->unmount();
  volume_->mount({.access = cache::Access::kReadOnly});
  service().set_mapping_cache(cache_);
  ASSERT_TRUE(volume_->fs().lookup(kRootInode, "file"));
  EXPECT_EQ(ask(0, 1, MappingPurpose::kRead)->kind, Kind::kWritten);
  EXPECT_EQ(ask(0, 1, MappingPurpose::kBufferedWrite).error(), Errno(EROFS));
  volume_->unmount();
}

}  // namespace
}  // namespace fuse4fs::ext4
