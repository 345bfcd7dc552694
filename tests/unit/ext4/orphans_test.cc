// SPDX-License-Identifier: GPL-2.0-or-later
// The chain and the file of orphans: honest ones go with all that they owned, impossible ones are told.
#include "server/ext4/orphans.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

using testing::HasSubstr;

struct Form {
  const char* name;
  const char* options;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class Orphans : public testing::TestWithParam<Form> {
 protected:
  Orphans() : volume_(GetParam().options, "24M") {
    volume_.mount();
    for (int i = 0; i < 4; ++i) {
      const auto name = fmt::format("f{}", i);
      files_.push_back(volume_.make_file(kRootInode, name));
      volume_.write(files_.back(), 0, std::string(20'000, 'x'));
      const std::string value(700, 'v');
      EXPECT_TRUE(volume_.fs().set_xattr(files_.back(), "user.x", std::as_bytes(std::span(value)),
                                         XattrMode::kCreate, SetgidBit::kKeep));
    }
    EXPECT_EQ(volume_.unmount_and_check(), "");
    volume_.events.echo = false;
    open_.emplace(volume_);
  }

  Metadata& metadata() { return open_->metadata(); }
  ext2_super_block& super() { return *open_->volume().super_pointer(); }

  Inode raw(InodeNumber number) { return *metadata().inodes.read_raw(number); }
  void change(InodeNumber number, const std::function<void(ext2_inode_large&)>& how) {
    Inode inode = raw(number);
    how(inode.raw);
    const auto handle = open_->change();
    ASSERT_TRUE(metadata().inodes.write(inode));
  }
  void take_name(int index) {
    Inode root = raw(kRootInode);
    {
      const auto handle = open_->change(credits::of_unlink);
      ASSERT_TRUE(metadata().directories.remove(root, fmt::format("f{}", index)));
    }
    change(files_[static_cast<std::size_t>(index)], [](auto& inode) { inode.i_links_count = 0; });
  }
  void chain(const std::vector<InodeNumber>& numbers) {
    InodeNumber next = 0;
    for (auto number = numbers.rbegin(); number != numbers.rend(); ++number) {
      if (*number <= super().s_inodes_count && metadata().inodes.may_be_a_file(*number))
        change(*number, [&](auto& inode) { inode.i_dtime = next; });
      next = *number;
    }
    super().s_last_orphan = next;
  }
  OrphanSummary process() {
    const auto done = process_orphans(metadata());
    EXPECT_TRUE(done) << done.error().message;
    return done ? *done : OrphanSummary{};
  }
  [[nodiscard]] bool in_use(int index) {
    return metadata().inode_allocator.in_use(files_[static_cast<std::size_t>(index)]);
  }

  TestVolume volume_;
  std::optional<OpenVolume> open_;
  std::vector<InodeNumber> files_;
};

TEST_P(Orphans, NamelessOnesGoAndTruncatesAreFinished) {
  const auto free = metadata().blocks.free_blocks();
  take_name(0);
  take_name(2);
  change(files_[1], [](auto& inode) {
    inode.i_size = 5'001;
    inode.i_mtime = inode.i_ctime = 1'000'000'000;
  });
  chain({files_[0], files_[1], files_[2]});
  const Timestamp before = now();
  std::vector<std::uint64_t> seen;
  const auto done = process_orphans(
      metadata(), [&](const OrphanSummary& summary) { seen.push_back(summary.deleted + summary.truncated); });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->deleted, 2U);
  EXPECT_EQ(done->truncated, 1U);
  EXPECT_EQ(done->damaged, 0U);
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(super().s_last_orphan, 0U);
  EXPECT_GT(metadata().blocks.free_blocks(), free + 2 * 20'000 / open_->volume().block_size());
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
  volume_.mount();
  EXPECT_EQ(volume_.read(files_[1], 0, 30'000), std::string(5'001, 'x'));
  const auto attributes = volume_.fs().attributes(files_[1]);
  EXPECT_GE(attributes->modified.seconds, before.seconds) << "as ext4: the truncate ends now";
  EXPECT_GE(attributes->changed.seconds, before.seconds);
  // What lay behind the end does not come back.
  ASSERT_TRUE(volume_.fs().set_attributes(files_[1], {.size = 6'000}));
  EXPECT_EQ(volume_.read(files_[1], 0, 30'000), std::string(5'001, 'x') + std::string(999, '\0'));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// As the kernel: what is before it is done, what is behind it is e2fsck's.
TEST_P(Orphans, WhatCannotBeEndsTheChain) {
  const InodeNumber unused = super().s_inodes_count - 1;
  const std::vector<std::pair<InodeNumber, const char*>> cases = {
      {7, "no file can have"},
      {kRootInode, "no file can have"},
      {super().s_inodes_count + 1, "no file can have"},
      {UINT32_MAX, "no file can have"},
      {unused, "not in use"},
  };
  take_name(0);
  take_name(1);
  for (const auto& [number, words] : cases) {
    SCOPED_TRACE(number);
    volume_.events.corruptions.clear();
    super().s_state &= static_cast<std::uint16_t>(~EXT2_ERROR_FS);
    chain({number, files_[1]});
    const auto done = process();
    EXPECT_EQ(done.deleted, 0U);
    EXPECT_EQ(done.damaged, 1U);
    EXPECT_EQ(super().s_last_orphan, 0U);
    EXPECT_TRUE(in_use(1));
    ASSERT_EQ(volume_.events.corruptions.size(), 1U);
    EXPECT_THAT(volume_.events.corruptions[0], HasSubstr(words));
    EXPECT_THAT(volume_.events.corruptions[0], HasSubstr(fmt::format("inode {}", number)));
    // With the next write-back.
    EXPECT_TRUE(open_->volume().needs_write_back());
    EXPECT_NE(super().s_state & EXT2_ERROR_FS, 0);
  }
}

// Its count is told as wrong; its blocks go all the same, and so does what comes behind it. Found by
// fuzz_fast_commit.
TEST_P(Orphans, OneThatCountedFewerBlocksThanItHadGoes) {
  take_name(0);
  take_name(2);
  change(files_[0], [](auto& inode) { inode.i_blocks = 2; });
  chain({files_[0], files_[2]});
  EXPECT_EQ(process().deleted, 2U);
  EXPECT_FALSE(in_use(0));
  EXPECT_FALSE(in_use(2));
  EXPECT_THAT(volume_.events.corruptions,
              testing::Contains(HasSubstr("more blocks were freed than it had counted")));
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(Orphans, ImpossibleLengthsAreTold) {
  change(files_[0], [](auto& inode) { inode.i_size_high = 0x4000'0000; });
  chain({files_[0]});
  EXPECT_EQ(process().damaged, 1U);
  EXPECT_TRUE(in_use(0));
}

TEST_P(Orphans, ACircleComesToAnEnd) {
  take_name(0);
  chain({files_[0], files_[1], files_[2]});
  change(files_[2], [&](auto& inode) { inode.i_dtime = files_[0]; });
  const auto done = process();
  EXPECT_EQ(done.deleted, 1U);
  EXPECT_EQ(done.truncated, 2U);
  // The circle's first is not in use by then.
  EXPECT_EQ(done.damaged, 1U);
  EXPECT_TRUE(in_use(1));
}

TEST_P(Orphans, OnAVolumeWithErrorsNothingIsDeleted) {
  take_name(0);
  chain({files_[0]});
  super().s_state |= EXT2_ERROR_FS;
  const auto done = process();
  EXPECT_EQ(done.left_alone, 1U);
  EXPECT_EQ(done.deleted, 0U);
  EXPECT_TRUE(in_use(0));
  EXPECT_EQ(super().s_last_orphan, 0U);
}

TEST_P(Orphans, BlocksThatCannotBeAreNotFreed) {
  take_name(0);
  take_name(1);
  change(files_[0], [&](auto& inode) {
    // The first block of it lies over the inode table.
    const auto table = static_cast<std::uint32_t>(ext2fs_inode_table_loc(open_->volume().fs(), 0));
    inode.i_block[(inode.i_flags & EXT4_EXTENTS_FL) != 0 ? 5 : 0] = table;
  });
  chain({files_[0], files_[1]});
  const auto free = metadata().blocks.free_blocks();
  const auto done = process();
  EXPECT_EQ(done.deleted, 0U);
  EXPECT_EQ(done.damaged, 1U);
  EXPECT_EQ(metadata().blocks.free_blocks(), free);
  EXPECT_TRUE(in_use(1));
}

INSTANTIATE_TEST_SUITE_P(Forms, Orphans,
                         testing::Values(Form{"4k", "-t ext4 -b 4096"}, Form{"1k", "-t ext4 -b 1024"},
                                         Form{"ea_inode", "-t ext4 -b 4096 -O ea_inode -I 128"},
                                         Form{"bigalloc", "-t ext4 -b 4096 -O bigalloc -C 16384"},
                                         Form{"ext3", "-t ext3 -b 1024"}),
                         [](const auto& info) { return std::string(info.param.name); });

class OrphanFileTest : public Orphans {
 protected:
  void SetUp() override {
    ASSERT_NE(super().s_orphan_file_inum, 0U);
    const Inode inode = raw(super().s_orphan_file_inum);
    generation_ = inode.raw.i_generation;
    const auto parts = metadata().extents.map(inode, 0, inode.size() / size());
    ASSERT_TRUE(parts);
    for (const auto& part : *parts) {
      for (std::uint64_t i = 0; i < part.count; ++i) blocks_.push_back(part.physical + i);
    }
    super().s_feature_ro_compat |= EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT;
  }
  [[nodiscard]] std::uint32_t size() { return open_->volume().block_size(); }
  void write(std::uint64_t block, const std::vector<InodeNumber>& numbers, std::uint32_t mark = 0x0b10ca04,
             std::uint32_t spoil = 0) {
    std::vector<std::byte> bytes(size());
    std::ranges::copy(std::as_bytes(std::span(numbers)), bytes.begin());
    std::array<std::uint32_t, 2> tail{mark, 0};
    if (open_->volume().has_checksums()) {
      const std::array<std::uint32_t, 4> before{super().s_orphan_file_inum, generation_,
                                                static_cast<std::uint32_t>(block), 0};
      tail[1] = ext2fs_crc32c_le(open_->volume().fs()->csum_seed,
                                 reinterpret_cast<const unsigned char*>(before.data()), sizeof before);
      tail[1] = ext2fs_crc32c_le(tail[1], reinterpret_cast<const unsigned char*>(bytes.data()),
                                 bytes.size() - sizeof tail) ^
                spoil;
    }
    std::memcpy(bytes.data() + bytes.size() - sizeof tail, tail.data(), sizeof tail);
    ASSERT_TRUE(open_->volume().cache().write(block * size(), bytes));
  }

  std::vector<std::uint64_t> blocks_;
  std::uint32_t generation_ = 0;
};

TEST_P(OrphanFileTest, ItsEntriesGo) {
  take_name(0);
  take_name(2);
  take_name(3);
  write(blocks_.at(0), {0, files_[0]});
  write(blocks_.back(), {files_[2], 0, 0, files_[1]});
  chain({files_[3]});
  const auto done = process();
  EXPECT_EQ(done.deleted, 3U);
  EXPECT_EQ(done.truncated, 1U);
  EXPECT_EQ(done.damaged, 0U);
  EXPECT_EQ(super().s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT, 0U);
  open_->finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(OrphanFileTest, WhatCannotBeIsToldAndLeftOut) {
  take_name(0);
  write(blocks_.at(0), {7, super().s_orphan_file_inum, UINT32_MAX, files_[0], files_[0]});
  const auto done = process();
  EXPECT_EQ(done.deleted, 1U);
  EXPECT_EQ(done.damaged, 4U);
  EXPECT_EQ(volume_.events.corruptions.size(), 4U);
}

TEST_P(OrphanFileTest, ADamagedBlockIsARefusalAndNothingIsDone) {
  take_name(0);
  chain({files_[0]});
  write(blocks_.at(1), {}, 0x12345678);
  auto done = process_orphans(metadata());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().error, kCorrupted);
  EXPECT_THAT(done.error().message, HasSubstr(fmt::format("block {} of the orphan file", blocks_[1])));
  EXPECT_TRUE(in_use(0));
  if (!open_->volume().has_checksums()) return;
  write(blocks_.at(1), {}, 0x0b10ca04, 1);
  done = process_orphans(metadata());
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("checksum"));
}

TEST_P(OrphanFileTest, OneThatTheKernelWouldNotTakeIsRefused) {
  change(super().s_orphan_file_inum, [&](auto& inode) { inode.i_size = 513 * size(); });
  const auto done = process_orphans(metadata());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().error, kCorrupted);
  EXPECT_THAT(done.error().message, HasSubstr(fmt::format("has {} bytes", 513 * size())));
}

INSTANTIATE_TEST_SUITE_P(Forms, OrphanFileTest,
                         testing::Values(Form{"4k", "-t ext4 -b 4096 -O orphan_file"},
                                         Form{"no_checksums",
                                              "-t ext4 -b 1024 -O orphan_file,^metadata_csum"}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::ext4
