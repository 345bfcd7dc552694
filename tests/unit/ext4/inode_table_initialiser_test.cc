// SPDX-License-Identifier: GPL-2.0-or-later
// The inode tables that mke2fs leaves as they were: what is done of them when inodes are first taken, and the
// rest later.
#include "server/ext4/inode_table_initialiser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>

#include "base/zeros.h"
#include "tests/devices/faulty_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t kBlock = 1024;

class LazyTables : public testing::Test {
 protected:
  struct Table {
    std::uint64_t first, blocks, used;
  };
  void SetUp() override {
    OpenVolume open(volume_);
    const auto& groups = open.volume().groups();
    for (GroupNumber group = 0; group < groups.count(); ++group) {
      EXPECT_TRUE(groups.has_stale_table(group));
      tables_.push_back({groups.inode_table(group), open.volume().fs()->inode_blocks_per_group,
                         groups.used_table_blocks(group)});
    }
    open.finish();
    ASSERT_GE(tables_.size(), 4U);
  }
  // What another file system left: inodes in use, for all that their bytes say.
  void leave_something() {
    std::fstream image(volume_.image(), std::ios::in | std::ios::out | std::ios::binary);
    for (const Table& table : tables_) {
      image.seekp(static_cast<std::streamoff>((table.first + table.used) * kBlock));
      const std::string bytes((table.blocks - table.used) * kBlock, '\x41');
      image.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
  }
  // Of the group's table, from its block `first` on.
  [[nodiscard]] bool is_zero(const Table& table, std::uint64_t first) const {
    const std::string bytes = volume_.image_bytes();
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>((table.first + first) * kBlock);
    const auto end = bytes.begin() + static_cast<std::ptrdiff_t>((table.first + table.blocks) * kBlock);
    return std::all_of(begin, end, [](char byte) { return byte == 0; });
  }
  [[nodiscard]] std::size_t zeroed_groups() const {
    const std::string shown = run("dumpe2fs " + volume_.image().string()).output;
    std::size_t count = 0;
    for (std::size_t at = shown.find("ITABLE_ZEROED"); at != std::string::npos;
         at = shown.find("ITABLE_ZEROED", at + 1))
      ++count;
    return count;
  }
  [[nodiscard]] std::size_t initialise_all() {
    std::size_t tables = 0;
    while (volume_.fs().initialise_inode_table()) ++tables;
    return tables;
  }

  // Of the next mount's device.
  std::shared_ptr<cache::Recording> record() {
    auto recording = std::make_shared<cache::Recording>();
    volume_.wrap_device = [recording](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::RecordingBackend>(std::move(device), recording);
    };
    return recording;
  }
  std::shared_ptr<cache::Faults> make_faulty() {
    auto faults = std::make_shared<cache::Faults>();
    volume_.wrap_device = [faults](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::FaultyBackend>(std::move(device), faults);
    };
    return faults;
  }

  TestVolume volume_{"-t ext4 -b 1024 -g 1024 -N 4096 -O ^has_journal -E lazy_itable_init=1,nodiscard", "8M"};
  std::vector<Table> tables_;
};

TEST_F(LazyTables, GetZerosAndSayThatTheyHave) {
  leave_something();
  auto& fs = volume_.mount();
  for (int i = 0; i < 30; ++i) volume_.make_file(kRootInode, fmt::format("file {}", i));
  EXPECT_TRUE(fs.initialise_inode_table());
  // Beside files that come.
  for (int i = 30; i < 200; ++i) volume_.make_file(kRootInode, fmt::format("file {}", i));
  EXPECT_EQ(initialise_all(), tables_.size() - 1);
  for (int i = 200; i < 220; ++i) volume_.make_file(kRootInode, fmt::format("file {}", i));
  EXPECT_FALSE(fs.initialise_inode_table());
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_EQ(zeroed_groups(), tables_.size());
  for (std::size_t group = 1; group < tables_.size(); ++group)
    EXPECT_TRUE(is_zero(tables_[group], tables_[group].used)) << "group " << group;
  // Nothing of what was there, files or none.
  EXPECT_EQ(volume_.image_bytes().find(std::string(256, '\x41')), std::string::npos);
  auto& again = volume_.mount();
  EXPECT_FALSE(again.initialise_inode_table()) << "all was done";
  EXPECT_EQ(volume_.list(kRootInode).size(), 2 + 1 + 220U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// The zeros are on the medium before a descriptor says so.
TEST_F(LazyTables, SayItLast) {
  leave_something();
  const auto recording = record();
  auto& fs = volume_.mount();
  ASSERT_TRUE(fs.sync());
  (void)recording->take_lines();
  const std::size_t since = recording->operations().size();
  while (fs.initialise_inode_table()) {
  }
  ASSERT_TRUE(fs.sync());
  const auto& operations = recording->operations();
  const auto is_table = [&](std::uint64_t offset) {
    return std::any_of(tables_.begin(), tables_.end(), [&](const Table& table) {
      return offset / kBlock >= table.first && offset / kBlock < table.first + table.blocks;
    });
  };
  bool flushed = true, described = false;
  for (std::size_t i = since; i < operations.size(); ++i) {
    const auto kind = operations[i].kind;
    if (kind == cache::Recording::Operation::Kind::kFlush) {
      flushed = true;
    } else if (is_table(operations[i].offset)) {
      EXPECT_FALSE(described);
      flushed = false;
    } else {
      EXPECT_TRUE(flushed) << "at " << operations[i].offset;
      described = true;
    }
  }
  EXPECT_TRUE(described);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// Whatever of a write-back a power cut leaves, e2fsck finds no inodes of what was there before.
TEST_F(LazyTables, HaveZerosBeforeADescriptorSaysThatTheyAreUsed) {
  leave_something();
  const auto recording = record();
  auto& fs = volume_.mount();
  ASSERT_TRUE(fs.sync());
  const std::size_t since = recording->operations().size();
  const Table& table = tables_.front();
  for (int i = 0; i < 30; ++i) volume_.make_file(kRootInode, fmt::format("file {}", i));
  ASSERT_TRUE(fs.sync());
  const auto& operations = recording->operations();
  const auto first_of = [&](const auto& is) {
    for (std::size_t i = since; i < operations.size(); ++i)
      if (is(operations[i])) return i;
    return operations.size();
  };
  using Kind = cache::Recording::Operation::Kind;
  const auto zeros = first_of([&](const auto& operation) {
    return operation.kind == Kind::kWrite && operation.offset == (table.first + table.used) * kBlock;
  });
  const auto flush = first_of([](const auto& operation) { return operation.kind == Kind::kFlush; });
  const auto descriptor = first_of(
      [](const auto& operation) { return operation.kind == Kind::kWrite && operation.offset <= 2 * kBlock; });
  ASSERT_LT(descriptor, operations.size());
  EXPECT_LT(zeros, flush);
  EXPECT_LT(flush, descriptor);
  EXPECT_TRUE(fuse4fs::is_zero(operations[zeros].bytes));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// What holds zeros is not written: an image stays as small as it is.
TEST_F(LazyTables, StaySparse) {
  const auto blocks = [&] {
    struct stat status{};
    EXPECT_EQ(::stat(volume_.image().c_str(), &status), 0);
    return status.st_blocks;
  };
  volume_.mount();
  ASSERT_TRUE(volume_.fs().sync());
  const auto before = blocks();
  EXPECT_EQ(initialise_all(), tables_.size());
  ASSERT_TRUE(volume_.fs().sync());
  EXPECT_LE(blocks(), before + 8) << "descriptors and superblock";
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_EQ(zeroed_groups(), tables_.size());
}

// A file's inode is the first in its block: nothing is read for it, and what lay there is nobody's.
TEST_F(LazyTables, AreNotReadForFreshInodes) {
  leave_something();
  const auto faults = make_faulty();
  auto& fs = volume_.mount();
  for (const Table& table : tables_)
    faults->add({.operation = cache::Fault::Operation::kRead,
                 .offset = (table.first + table.used) * kBlock,
                 .length = (table.blocks - table.used) * kBlock,
                 .times = cache::Fault::kForever});
  for (int i = 0; i < 300; ++i) volume_.make_file(kRootInode, fmt::format("file {}", i));
  EXPECT_EQ(faults->strikes(), 0U);
  faults->clear();
  ASSERT_TRUE(fs.sync());
  // e2fsck would look at all inodes of the blocks that are in use.
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_THAT(volume_.debugfs("stat <300>"), testing::HasSubstr("Type: regular"));
}

// The descriptor of a damaged volume may call inodes unused that its bitmap has in use.
TEST_F(LazyTables, OfWhichTheBitmapKnowsMoreAreLeft) {
  std::vector<InodeNumber> files;
  volume_.mount();
  for (int i = 0; i < 40; ++i) files.push_back(volume_.make_file(kRootInode, fmt::format("file {}", i)));
  EXPECT_EQ(volume_.unmount_and_check(), "");
  const auto inode_of = [&] { return volume_.debugfs(fmt::format("stat <{}>", files.back())); };
  const std::string before = inode_of();
  ASSERT_EQ(run(fmt::format("debugfs -w -R 'set_block_group 0 itable_unused 500' {} && "
                            "debugfs -w -R 'set_block_group 0 checksum calc' {}",
                            volume_.image().string(), volume_.image().string()))
                .status,
            0);
  volume_.mount();
  EXPECT_EQ(initialise_all(), tables_.size());
  volume_.unmount();
  EXPECT_EQ(inode_of(), before);
  EXPECT_EQ(zeroed_groups(), tables_.size() - 1);
}

TEST_F(LazyTables, ThatCannotBeWrittenAreToldOnce) {
  leave_something();
  const auto faults = make_faulty();
  volume_.mount();
  faults->add({.operation = cache::Fault::Operation::kWrite,
               .offset = (tables_[1].first + tables_[1].used) * kBlock,
               .length = kBlock,
               .times = cache::Fault::kForever});
  EXPECT_EQ(initialise_all(), 1U);
  faults->clear();
  EXPECT_EQ(volume_.events.notices.size(), 1U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_EQ(zeroed_groups(), 1U);
}

}  // namespace
}  // namespace fuse4fs::ext4
