// SPDX-License-Identifier: GPL-2.0-or-later
// Mappings for writes that go to the device in one piece (RWF_ATOMIC).
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "server/cache/direct_backend.h"
#include "server/ext4/mapping_service.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using Kind = DataMapping::Kind;
using Pieces = MappingRequest::Pieces;

constexpr std::uint64_t kBlock = 4096;

// Takes all that it is given.
class EagerCache final : public MappingCache {
 public:
  Result<void> forget(InodeNumber, ByteRange) override { return {}; }
  bool remember(InodeNumber, const DataMapping& mapping) override {
    remembered.push_back(mapping);
    return true;
  }
  Result<void> forget_device(ByteRange) override { return {}; }

  std::vector<DataMapping> remembered;
};

class AtomicMapping : public testing::Test {
 protected:
  void mount(const std::string& options = "-t ext4 -b 4096") {
    volume_ = std::make_unique<TestVolume>(options, "64M");
    volume_->wrap_device = [](TestVolume::Backend below) {
      return std::make_unique<cache::DirectBackend>(std::move(below));
    };
    volume_->mount();
    service().set_mapping_cache(cache_);
    file_ = volume_->make_file(kRootInode, "file");
  }
  MappingService& service() { return *volume_->fs().mappings(); }
  Result<DataMapping> ask(ByteRange range, MappingPurpose purpose = MappingPurpose::kDirectWrite,
                          Pieces pieces = Pieces::kWhole) {
    return service().map(file_, {.range = range, .purpose = purpose, .pieces = pieces});
  }
  Result<DataMapping> ask_block(std::uint64_t block) {
    return ask({.offset = block * kBlock, .length = kBlock});
  }
  void complete(std::uint64_t block) {
    EXPECT_TRUE(service().complete_write(file_, {.range = {.offset = block * kBlock, .length = kBlock},
                                                 .extents = CompletedWrite::Extents::kUnwritten,
                                                 .way = CompletedWrite::Way::kDirect}));
  }
  Kind kind_at(std::uint64_t block) {
    return ask({.offset = block * kBlock, .length = 1}, MappingPurpose::kReport, Pieces::kAny)->kind;
  }
  std::uint64_t sectors() { return volume_->fs().attributes(file_)->sectors; }

  std::unique_ptr<TestVolume> volume_;
  EagerCache cache_;
  InodeNumber file_ = 0;
};

TEST_F(AtomicMapping, AHoleIsAllocatedUnwrittenAndNothingAhead) {
  mount();
  for (std::uint64_t block = 0; block < 8; ++block) {
    const auto given = ask_block(block);
    ASSERT_TRUE(given);
    EXPECT_EQ(given->kind, Kind::kUnwritten);
    EXPECT_EQ(given->pieces, Pieces::kWhole);
    EXPECT_EQ(given->place, DataMapping::Place::kHere);
    EXPECT_LE(given->offset, block * kBlock);
    EXPECT_EQ(given->offset + given->length, (block + 1) * kBlock);
    complete(block);
    EXPECT_EQ(kind_at(block), Kind::kWritten);
  }
  EXPECT_EQ(kind_at(8), Kind::kHole);
  EXPECT_EQ(sectors(), 8 * kBlock / 512);
  EXPECT_EQ(volume_->fs().attributes(file_)->size, 8 * kBlock);
  EXPECT_TRUE(cache_.remembered.empty()) << "others write as they like";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(AtomicMapping, WhatIsThereIsAnsweredAsItIs) {
  mount();
  ASSERT_TRUE(ask_block(0));
  complete(0);
  const auto first = ask_block(0);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->kind, Kind::kWritten);
  EXPECT_EQ(first->pieces, Pieces::kWhole);
  EXPECT_EQ(first->place, DataMapping::Place::kHere);
  ASSERT_TRUE(volume_->fs().change_range(file_, RangeChange::kAllocate,
                                         {.offset = 4 * kBlock, .length = 4 * kBlock}, EndOfFile::kMayMove,
                                         AttributeChanges::Privileges::kKeep));
  const auto second = ask_block(5);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->kind, Kind::kUnwritten);
  EXPECT_EQ(second->pieces, Pieces::kWhole);
  EXPECT_TRUE(cache_.remembered.empty());
}

TEST_F(AtomicMapping, OthersAfterItAreNotPromisedIt) {
  mount();
  ASSERT_TRUE(ask_block(0));
  complete(0);
  const auto plain = ask({.offset = 0, .length = kBlock}, MappingPurpose::kDirectWrite, Pieces::kAny);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->pieces, Pieces::kAny);
  ASSERT_FALSE(cache_.remembered.empty());
  for (const DataMapping& mapping : cache_.remembered) EXPECT_EQ(mapping.pieces, Pieces::kAny);
}

TEST_F(AtomicMapping, ItIsOneAlignedBlock) {
  for (const auto* const form : {"-t ext4 -b 4096", "-t ext4 -b 4096 -O bigalloc -C 16384"}) {
    SCOPED_TRACE(form);
    mount(form);
    for (const ByteRange range :
         {ByteRange{.offset = 0, .length = 2 * kBlock}, ByteRange{.offset = 0, .length = 4 * kBlock},
          ByteRange{.offset = 0, .length = kBlock / 2}, ByteRange{.offset = 512, .length = kBlock},
          ByteRange{.offset = 0, .length = 0}, ByteRange{.offset = 0, .length = kBlock + 1}})
      EXPECT_EQ(ask(range).error(), Errno(EINVAL)) << range.offset << "+" << range.length;
    EXPECT_EQ(sectors(), 0U);
  }
}

TEST_F(AtomicMapping, OnlyDirectWritesHaveIt) {
  mount();
  for (const auto purpose : {MappingPurpose::kRead, MappingPurpose::kReport, MappingPurpose::kBufferedWrite,
                             MappingPurpose::kWriteBack, MappingPurpose::kZero, MappingPurpose::kUnshare})
    EXPECT_EQ(ask({.offset = 0, .length = kBlock}, purpose).error(), Errno(EOPNOTSUPP));
  EXPECT_EQ(sectors(), 0U);
}

TEST_F(AtomicMapping, BlocksOfAClusterAreGivenOneByOne) {
  mount("-t ext4 -b 4096 -O bigalloc -C 16384");
  ASSERT_TRUE(ask_block(1));
  complete(1);
  EXPECT_EQ(kind_at(0), Kind::kHole);
  EXPECT_EQ(kind_at(1), Kind::kWritten);
  EXPECT_EQ(kind_at(2), Kind::kHole);
  const auto next = ask_block(2);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->kind, Kind::kUnwritten);
  complete(2);
  EXPECT_EQ(sectors(), 16384 / 512) << "of one cluster";
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(AtomicMapping, InlineDataMovesOut) {
  mount("-t ext4 -b 4096 -O inline_data");
  // Our own writes never put it there.
  volume_->unmount();
  ASSERT_EQ(run(fmt::format("echo -n in the inode >{0}.content && debugfs -w -R 'rm file' {0} && "
                            "debugfs -w -R 'write {0}.content file' {0}; rm {0}.content",
                            volume_->image().string()))
                .status,
            0);
  volume_->mount();
  service().set_mapping_cache(cache_);
  file_ = volume_->fs().lookup(kRootInode, "file")->inode;
  ASSERT_EQ(kind_at(0), Kind::kInline);
  const auto given = ask_block(1);
  ASSERT_TRUE(given) << given.error().message();
  EXPECT_EQ(given->kind, Kind::kUnwritten);
  EXPECT_EQ(given->pieces, Pieces::kWhole);
  complete(1);
  EXPECT_EQ(kind_at(0), Kind::kWritten);
  EXPECT_EQ(volume_->read(file_, 0, 12), "in the inode");
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

// Also where the file would get its blocks now.
TEST_F(AtomicMapping, FilesWithoutExtentsHaveNone) {
  for (const auto* const form : {"-t ext4 -b 4096 -O ^extents,^64bit",
                                 "-t ext4 -b 4096 -O ^extents,^64bit,inline_data", "-t ext2 -b 4096"}) {
    SCOPED_TRACE(form);
    mount(form);
    volume_->write(file_, 0, "content");
    const std::uint64_t before = sectors();
    EXPECT_EQ(ask_block(0).error(), Errno(EOPNOTSUPP));
    EXPECT_EQ(ask_block(5).error(), Errno(EOPNOTSUPP));
    EXPECT_EQ(sectors(), before);
    EXPECT_EQ(volume_->unmount_and_check(), "");
  }
}

// Never through pages, where it would come in pieces.
TEST_F(AtomicMapping, TheLastBlockMayBeLongerThanTheFile) {
  mount();
  ASSERT_TRUE(ask_block(0));
  complete(0);
  ASSERT_TRUE(volume_->fs().set_attributes(file_, {.size = 100}));
  const auto given = ask_block(0);
  ASSERT_TRUE(given) << given.error().message();
  EXPECT_EQ(given->kind, Kind::kWritten);
  EXPECT_EQ(given->pieces, Pieces::kWhole);
  complete(0);
  EXPECT_EQ(volume_->fs().attributes(file_)->size, kBlock);
  EXPECT_EQ(volume_->unmount_and_check(), "");
}

TEST_F(AtomicMapping, OverwritesOnlyOfWhatIsWritten) {
  mount();
  MappingRequest request{.range = {.offset = 0, .length = kBlock},
                         .purpose = MappingPurpose::kDirectWrite,
                         .allowed = MappingRequest::Allowed::kWrittenOnly,
                         .pieces = Pieces::kWhole};
  EXPECT_EQ(service().map(file_, request).error(), Errno(EAGAIN));
  ASSERT_TRUE(ask_block(0));
  complete(0);
  const auto given = service().map(file_, request);
  ASSERT_TRUE(given);
  EXPECT_EQ(given->pieces, Pieces::kWhole);
}

}  // namespace
}  // namespace fuse4fs::ext4
