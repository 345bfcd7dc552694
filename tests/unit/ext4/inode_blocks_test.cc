// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes in their tables: what libext2fs makes of what we wrote; damage, and numbers and places that cannot
// be.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "base/zeros.h"
#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

struct Form {
  const char* name;
  const char* options;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

constexpr std::size_t kChecksumLow = 0x7c;
constexpr std::size_t kExtraSize = 0x80;
constexpr std::size_t kVersionHigh = 0x98;

class InodeBlocksTest : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    volume_.mount();
    for (int i = 0; i < 60; ++i) volume_.write(volume_.make_file(kRootInode, name_of(i)), 0, "content");
    first_ = volume_.fs().lookup(kRootInode, name_of(0))->inode;
    ASSERT_EQ(volume_.unmount_and_check(), "");
    open_.emplace(volume_);
  }

  static std::string name_of(int number) { return fmt::format("file {}", number); }
  Volume& volume() { return open_->volume(); }
  std::size_t inode_size() { return EXT2_INODE_SIZE(&volume().super()); }

  Bytes read(InodeNumber number) {
    Bytes bytes(inode_size());
    const auto done = volume().read_inode(number, bytes);
    EXPECT_TRUE(done) << done.error().message();
    return bytes;
  }
  // All of it, in its own way; from the block, whatever it keeps in memory.
  Bytes read_by_library(InodeNumber number) {
    auto* const fs = volume().fs();
    const auto hook = std::exchange(fs->read_inode, nullptr);
    ext2fs_flush_icache(fs);
    Bytes bytes(inode_size());
    EXPECT_EQ(ext2fs_read_inode_full(fs, number, as_inode(bytes), static_cast<int>(bytes.size())), 0);
    fs->read_inode = hook;
    return bytes;
  }
  // As it does where it goes through a map.
  Bytes read_shortly_by_library(InodeNumber number) {
    Bytes bytes(sizeof(ext2_inode));
    EXPECT_EQ(ext2fs_read_inode(volume().fs(), number, as_inode(bytes)), 0);
    return bytes;
  }
  Result<void> write(InodeNumber number, std::span<const std::byte> bytes) {
    const auto handle = open_->change();
    return volume().write_inode(number, bytes);
  }
  static ext2_inode* as_inode(Bytes& bytes) { return reinterpret_cast<ext2_inode*>(bytes.data()); }
  // In the cached block, behind everybody's back.
  void damage(InodeNumber number, std::size_t byte) {
    const auto& super = volume().super();
    const auto place = ext2fs_inode_table_loc(volume().fs(), 0) * volume().block_size() +
                       std::uint64_t{number - 1} * EXT2_INODE_SIZE(&super) + byte;
    ASSERT_LT(number, super.s_inodes_per_group);
    std::byte value{};
    ASSERT_TRUE(volume().cache().read(place, std::span(&value, 1)));
    value ^= std::byte{0x40};
    ASSERT_TRUE(volume().cache().write(place, std::span(&value, 1)));
  }
  Errno error_of_reading(InodeNumber number) {
    Bytes bytes(inode_size());
    const auto done = volume().read_inode(number, bytes);
    return done ? Errno(0) : done.error();
  }

  TestVolume volume_{std::string("-b 4096 -q ") + GetParam().options};
  std::optional<OpenVolume> open_;
  InodeNumber first_ = 0;
};

TEST_P(InodeBlocksTest, TheLibraryReadsWhatWasWritten) {
  for (InodeNumber number = first_; number < first_ + 40; ++number) {
    ASSERT_EQ(read(number), read_by_library(number)) << number;
    Bytes bytes = read(number);
    // Its owner, and the last byte of all.
    bytes[2] = std::byte(number);
    bytes.back() = std::byte(number + 1);
    ASSERT_TRUE(write(number, bytes));
    // Without its checksum the caller's is the inode's too.
    const Bytes there = read_by_library(number);
    ASSERT_EQ(read(number), there) << number;
    ASSERT_EQ(there[2], bytes[2]);
    ASSERT_EQ(there.back(), bytes.back());
  }
  for (InodeNumber number = first_; number < first_ + 40; ++number) {
    Bytes bytes = read(number);
    bytes[2] = bytes.back() = std::byte{0};
    ASSERT_TRUE(write(number, bytes));
  }
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(InodeBlocksTest, WhatIsNotWrittenStays) {
  Bytes bytes = read(first_);
  std::mt19937 random(7);
  for (std::size_t i = 160; i < bytes.size(); ++i) bytes[i] = std::byte(random());
  ASSERT_TRUE(write(first_, bytes));
  for (const std::size_t length : {std::size_t{128}, std::min<std::size_t>(160, inode_size())}) {
    bytes = read(first_);
    Bytes changed = bytes;
    changed[4] ^= std::byte{1};
    ASSERT_TRUE(write(first_, std::span(changed).first(length)));
    const Bytes there = read_by_library(first_);
    EXPECT_EQ(there[4], changed[4]);
    // But for the checksum.
    for (std::size_t i = kExtraSize + 4; i < there.size(); ++i) ASSERT_EQ(there[i], bytes[i]) << i;
  }
  Inode inode;
  inode.number = first_;
  ASSERT_TRUE(volume().read_inode(first_, inode.bytes()));
  {
    const auto handle = open_->change();
    ASSERT_TRUE(volume().write_new_inode(inode));
  }
  const Bytes fresh = read_by_library(first_);
  for (std::size_t i = 160; i < fresh.size(); ++i) ASSERT_EQ(fresh[i], std::byte{0}) << i;
}

TEST_P(InodeBlocksTest, TheLibraryKeepsNoCopies) {
  const InodeNumber second = first_ + 1;
  Bytes mine = read(second);
  (void)read_shortly_by_library(first_);
  (void)read_shortly_by_library(second);
  mine[2] ^= std::byte{0xff};
  mine.back() ^= std::byte{0x55};
  ASSERT_TRUE(write(second, mine));
  EXPECT_EQ(read_shortly_by_library(second)[2], mine[2]);
  (void)read_shortly_by_library(first_);
  mine[2] ^= std::byte{0x0f};
  ASSERT_TRUE(write(second, mine));
  EXPECT_EQ(read_shortly_by_library(second)[2], mine[2]);
}

TEST_P(InodeBlocksTest, AWriteLeavesTheBlockAnInodeTables) {
  Bytes bytes = read(first_);
  bytes[2] ^= std::byte{0xff};
  ASSERT_TRUE(write(first_, bytes));
  const auto block = ext2fs_inode_table_loc(volume().fs(), 0) +
                     std::uint64_t{first_ - 1} * inode_size() / volume().block_size();
  int judged = 0;
  const auto count = [&](std::span<const std::byte>) {
    ++judged;
    return Result<void>();
  };
  ASSERT_TRUE(volume().cache().get(block, {.kind = cache::BlockKind::kInodeTable}, count));
  EXPECT_EQ(judged, 0);
}

// Of inodes of one block no change is lost, whoever makes it, and whoever judges it meanwhile.
TEST_P(InodeBlocksTest, ThreadsWriteNeighbours) {
  constexpr int kThreads = 4, kRounds = 300;
  // In a block of its own, of which not all was judged yet.
  const auto begin = static_cast<InodeNumber>(first_ + 32);
  for (InodeNumber number = begin; number < begin + kThreads; ++number) {
    Bytes bytes = read(number);
    bytes[8] = std::byte{0};
    ASSERT_TRUE(write(number, bytes));
  }
  {
    std::vector<std::jthread> threads;
    for (int mine = 0; mine < kThreads; ++mine) {
      threads.emplace_back([this, number = begin + mine, shortly = mine % 2 != 0] {
        for (int round = 1; round <= kRounds; ++round) {
          Bytes bytes = shortly ? read_shortly_by_library(number) : read(number);
          ASSERT_EQ(std::to_integer<int>(bytes[8]), (round - 1) % 256);
          bytes[8] = std::byte(round % 256);  // atime
          ASSERT_TRUE(write(number, bytes));
        }
      });
    }
  }
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(InodeBlocksTest, ManyOfABlockAreOneWriteAndNoChangeIsNone) {
  const std::size_t in_a_block = volume().block_size() / inode_size();
  const auto begin = static_cast<InodeNumber>((first_ + in_a_block - 2) / in_a_block * in_a_block + 1);
  ASSERT_TRUE(volume().write_back());
  ASSERT_EQ(volume().cache().dirty_blocks(), 0U);
  for (std::size_t i = 0; i < in_a_block; ++i) {
    const auto number = static_cast<InodeNumber>(begin + i);
    ASSERT_TRUE(write(number, read(number)));
  }
  EXPECT_EQ(volume().cache().dirty_blocks(), 0U);
  for (std::size_t i = 0; i < in_a_block; ++i) {
    const auto number = static_cast<InodeNumber>(begin + i);
    Bytes bytes = read(number);
    bytes[8] ^= std::byte{1};  // atime
    ASSERT_TRUE(write(number, bytes));
  }
  EXPECT_EQ(volume().cache().dirty_blocks(), 1U);
}

TEST_P(InodeBlocksTest, AWrongChecksumIsToldAndCanBeWrittenOver) {
  volume_.events.echo = false;
  const Bytes sound = read(first_);
  damage(first_, 5);
  if (!volume().has_checksums()) {
    EXPECT_EQ(error_of_reading(first_), Errno(0));
    return;
  }
  EXPECT_EQ(error_of_reading(first_), kCorrupted);
  EXPECT_THAT(volume_.events.corruptions,
              ElementsAre(fmt::format("reading an inode: {}, inode {}",
                                      error_message(EXT2_ET_INODE_CSUM_INVALID), first_)));
  // Its neighbour does not suffer.
  EXPECT_EQ(error_of_reading(first_ + 1), Errno(0));
  EXPECT_EQ(error_of_reading(first_), kCorrupted);
  ASSERT_TRUE(write(first_, sound));
  EXPECT_EQ(read(first_), sound);

  damage(first_, kChecksumLow);
  EXPECT_EQ(error_of_reading(first_), kCorrupted);
  damage(first_, kChecksumLow);
  EXPECT_EQ(error_of_reading(first_), Errno(0));
  if (inode_size() == 128) return;
  // Also of what lies behind all that we know of it.
  damage(first_, inode_size() - 1);
  EXPECT_EQ(error_of_reading(first_), kCorrupted);
}

TEST_P(InodeBlocksTest, FieldsThatEndBeforeTheHalfOfTheChecksumHaveTheOther) {
  if (inode_size() == 128) GTEST_SKIP() << "no fields behind the first 128 bytes";
  for (const int extra : {0, 2, 4, 24}) {
    Bytes bytes = read(first_);
    bytes[kExtraSize] = std::byte(extra);
    bytes[kVersionHigh] = std::byte{0x55};
    ASSERT_TRUE(write(first_, bytes));
    const Bytes there = read_by_library(first_);
    EXPECT_EQ(read(first_), there) << extra;
    EXPECT_EQ(there[kVersionHigh], std::byte{0x55});
  }
}

TEST_P(InodeBlocksTest, OneThatWasNeverThereNeedsNoChecksum) {
  const InodeNumber unused = first_ + 200;
  EXPECT_EQ(error_of_reading(unused), Errno(0));
  EXPECT_TRUE(is_zero(read(unused)));
  if (inode_size() == 128) return;
  damage(unused, 200);
  EXPECT_EQ(error_of_reading(unused), Errno(0));
  volume_.events.echo = false;
  damage(unused, 100);
  EXPECT_EQ(error_of_reading(unused), volume().has_checksums() ? kCorrupted : Errno(0));
}

TEST_P(InodeBlocksTest, NumbersAndTablesThatCannotBeAreCorruption) {
  volume_.events.echo = false;
  const InodeNumber last = volume().super().s_inodes_count;
  EXPECT_EQ(error_of_reading(last), Errno(0));
  const Bytes bytes = read(first_);
  for (const InodeNumber number : {InodeNumber{0}, InodeNumber{last + 1}, InodeNumber{UINT32_MAX}}) {
    volume_.events.corruptions.clear();
    EXPECT_EQ(error_of_reading(number), kCorrupted);
    const auto written = volume().write_inode(number, bytes);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error(), kCorrupted);
    EXPECT_THAT(volume_.events.corruptions,
                ElementsAre(HasSubstr(error_message(EXT2_ET_BAD_INODE_NUM)), HasSubstr("writing an inode")));
  }
  auto* const fs = volume().fs();
  const auto table = ext2fs_inode_table_loc(fs, 0);
  const auto first_outside = volume().blocks() - fs->inode_blocks_per_group + 1;
  const std::pair<blk64_t, errcode_t> places[] = {{0, EXT2_ET_MISSING_INODE_TABLE},
                                                  {first_outside, EXT2_ET_GDESC_BAD_INODE_TABLE},
                                                  {UINT32_MAX, EXT2_ET_GDESC_BAD_INODE_TABLE}};
  for (const auto& [place, code] : places) {
    volume_.events.corruptions.clear();
    ext2fs_inode_table_loc_set(fs, 0, place);
    EXPECT_EQ(error_of_reading(first_), kCorrupted);
    EXPECT_THAT(volume_.events.corruptions, ElementsAre(HasSubstr(error_message(code))));
    EXPECT_FALSE(volume().write_inode(first_, bytes));
  }
  ext2fs_inode_table_loc_set(fs, 0, first_outside - 1);
  Bytes into(inode_size());
  const auto code =
      InodeBlocks(*fs, volume().groups(), volume().cache(), volume().journal()).read(first_, into);
  EXPECT_NE(code, EXT2_ET_GDESC_BAD_INODE_TABLE);
  ext2fs_inode_table_loc_set(fs, 0, table);
  EXPECT_EQ(error_of_reading(first_), Errno(0));
}

INSTANTIATE_TEST_SUITE_P(Forms, InodeBlocksTest,
                         testing::Values(Form{"short", "-t ext4 -I 128"}, Form{"usual", "-t ext4 -I 256"},
                                         Form{"long", "-t ext4 -I 512"},
                                         Form{"short_no_checksums", "-t ext4 -I 128 -O ^metadata_csum"},
                                         Form{"no_checksums", "-t ext4 -I 256 -O ^metadata_csum"},
                                         Form{"long_no_checksums", "-t ext4 -I 512 -O ^metadata_csum"},
                                         Form{"checksum_seed", "-t ext4 -I 1024 -O metadata_csum_seed"},
                                         Form{"ext2", "-t ext2"}),
                         [](const auto& of) { return std::string(of.param.name); });

TEST(InodeTableGenerations, AreNotRepeated) {
  TestVolume volume;
  volume.mount();
  std::vector<std::string> names;
  for (int i = 0; i < 200; ++i) {
    names.push_back(fmt::format("file{}", i));
    volume.make_file(kRootInode, names.back());
  }
  ASSERT_EQ(volume.unmount_and_check(), "");
  OpenVolume open(volume);
  std::vector<std::uint32_t> generations;
  for (InodeNumber number = 12; number < 12 + 200; ++number) {
    Inode inode;
    ASSERT_TRUE(open.volume().read_inode(number, inode.bytes()));
    generations.push_back(inode.raw.i_generation);
  }
  std::ranges::sort(generations);
  EXPECT_EQ(std::ranges::adjacent_find(generations), generations.end());
}

}  // namespace
}  // namespace fuse4fs::ext4
