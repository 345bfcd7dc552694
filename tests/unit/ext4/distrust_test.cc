// SPDX-License-Identifier: GPL-2.0-or-later
// Bitmaps whose checksum is right and that call free what is in use: nothing of it is handed out, what was
// there stays, and the log names inode and block.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr auto kKeep = AttributeChanges::Privileges::kKeep;

class Distrust : public testing::TestWithParam<const char*> {
 protected:
  // Groups of 1024 blocks of 1 KiB.
  explicit Distrust(const char* size = "4M")
      : volume_(fmt::format("{} -b 1024 -g 1024 -N 64", GetParam()), size) {
    volume_.mount();
  }

  std::vector<std::uint64_t> blocks_of(const std::string& path) {
    std::istringstream words(volume_.debugfs("blocks " + path));
    std::vector<std::uint64_t> blocks;
    for (std::uint64_t block = 0; words >> block;) blocks.push_back(block);
    return blocks;
  }
  // debugfs puts checksums right.
  void change(const std::string& command) {
    const auto done = run(fmt::format("debugfs -w -R '{}' {}", command, volume_.image().string()));
    ASSERT_EQ(done.status, 0) << done.output;
  }
  void unmount() {
    ASSERT_EQ(volume_.unmount_and_check(), "");
    volume_.events.echo = false;
  }
  void mount_again() { volume_.mount({.errors = ErrorPolicy::kContinue}); }
  Errno write(InodeNumber inode, std::uint64_t offset, std::size_t length) {
    const std::string text(length, 'n');
    const auto done = volume_.fs().write(inode, offset, std::as_bytes(std::span(text)), kKeep);
    return done ? Errno(0) : done.error();
  }
  void expect_told(const std::string& words) {
    const auto& told = volume_.events.corruptions;
    EXPECT_TRUE(std::ranges::any_of(told, [&](const auto& line) { return line.find(words) != line.npos; }))
        << words << ", but: " << (told.empty() ? "nothing" : told.front());
  }
  // All that is left to anybody are these blocks.
  void leave_only(std::vector<std::uint64_t> blocks) {
    std::string commands = "setb 1 1023\n";
    for (const auto block : blocks) commands += fmt::format("freeb {}\n", block);
    const auto done =
        run(fmt::format("printf '{}' | debugfs -w -f - {}", commands, volume_.image().string()));
    ASSERT_EQ(done.status, 0) << done.output;
  }

  TestVolume volume_;
};

class DistrustInOneGroup : public Distrust {
 protected:
  DistrustInOneGroup() : Distrust("1M") {}
};

TEST_P(Distrust, TheFilesOwnBlock) {
  const auto file = volume_.make_file(kRootInode, "file");
  volume_.write(file, 0, std::string(4096, 'o'));
  ASSERT_NO_FATAL_FAILURE(unmount());
  const auto blocks = blocks_of("/file");
  ASSERT_EQ(blocks.size(), 4U);
  change(fmt::format("freeb {}", blocks[2]));
  mount_again();
  const auto again = volume_.fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(write(again, 4096, 1024), Errno(EUCLEAN));
  expect_told(
      fmt::format("the block bitmap of group {} calls a block free that is in use, inode {}, block {}",
                  (blocks[2] - 1) / 1024, again, blocks[2]));
  // What nothing is taken for goes on, and so does what other groups have room for.
  EXPECT_EQ(write(again, 0, 4096), Errno(0));
  EXPECT_EQ(write(again, 8192, 3000), Errno(0));
  EXPECT_EQ(volume_.events.corruptions.size(), 1U);
  ASSERT_TRUE(volume_.fs().unmount());
  mount_again();
  EXPECT_EQ(volume_.read(again, 0, 20'000),
            std::string(4096, 'n') + std::string(4096, '\0') + std::string(3000, 'n'));
}

TEST_P(DistrustInOneGroup, ABlockOfItsMap) {
  const auto file = volume_.make_file(kRootInode, "file");
  for (int i = 0; i < 30; ++i) volume_.write(file, std::uint64_t{4096} * i, std::string(1024, 'o'));
  ASSERT_NO_FATAL_FAILURE(unmount());
  auto blocks = blocks_of("/file");
  ASSERT_EQ(blocks.size(), 31U);
  // debugfs names a map's block when it comes to it; it is the one that is not in the row of the others.
  std::ranges::sort(blocks);
  const auto stat = volume_.debugfs("stat /file");
  const auto marked = stat.find("(IND)") != stat.npos ? stat.find("(IND)") : stat.find("(ETB0)");
  ASSERT_NE(marked, stat.npos) << stat;
  const std::uint64_t node = std::stoull(stat.substr(stat.find(':', marked) + 1));
  ASSERT_NO_FATAL_FAILURE(leave_only({node}));
  mount_again();
  const auto again = volume_.fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(write(again, 30 * 4096, 1024), Errno(EUCLEAN));
  expect_told(fmt::format(", block {}", node));
  EXPECT_EQ(volume_.read(again, 29 * 4096, 1024), std::string(1024, 'o'));
}

// Another file had it as well, and was removed.
TEST_P(DistrustInOneGroup, ABlockThatWasGivenBack) {
  volume_.write(volume_.make_file(kRootInode, "file"), 0, std::string(1024, 'o'));
  volume_.write(volume_.make_file(kRootInode, "other"), 0, std::string(1024, 'x'));
  ASSERT_NO_FATAL_FAILURE(unmount());
  const auto blocks = blocks_of("/file");
  ASSERT_EQ(blocks.size(), 1U);
  // In an extent the block lies behind its first logical block and its length.
  const bool has_extents = std::string_view(GetParam()).starts_with("-t ext4");
  change(fmt::format("sif /other block[{}] {}", has_extents ? 5 : 0, blocks[0]));
  ASSERT_NO_FATAL_FAILURE(leave_only({}));
  mount_again();
  const auto again = volume_.fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(write(again, 0, 1024), Errno(0));
  ASSERT_TRUE(volume_.fs().unlink(kRootInode, "other"));
  ASSERT_TRUE(volume_.fs().sync());
  EXPECT_EQ(write(again, 4096, 1024), Errno(EUCLEAN));
  expect_told(fmt::format("calls a block free that is in use, inode {}, block {}", again, blocks[0]));
  EXPECT_EQ(volume_.read(again, 0, 1024), std::string(1024, 'n'));
}

TEST_P(DistrustInOneGroup, ADirectorysBlock) {
  const auto directory = volume_.make_directory(kRootInode, "directory");
  volume_.make_file(directory, "inside");
  const auto file = volume_.make_file(kRootInode, "file");
  (void)file;
  ASSERT_NO_FATAL_FAILURE(unmount());
  const auto blocks = blocks_of("/directory");
  ASSERT_EQ(blocks.size(), 1U);
  ASSERT_NO_FATAL_FAILURE(leave_only(blocks));
  mount_again();
  const auto again = volume_.fs().lookup(kRootInode, "directory")->inode;
  ASSERT_TRUE(volume_.fs().lookup(again, "inside"));
  EXPECT_EQ(write(volume_.fs().lookup(kRootInode, "file")->inode, 0, 1024), Errno(EUCLEAN));
  expect_told(fmt::format("calls a block free that is in use, inode {}, block {}", again, blocks[0]));
  EXPECT_TRUE(volume_.fs().unmount());
  mount_again();
  EXPECT_TRUE(volume_.fs().lookup(again, "inside"));
}

TEST_P(DistrustInOneGroup, TheBlockOfItsAttributes) {
  const auto file = volume_.make_file(kRootInode, "file");
  const std::string value(600, 'v');
  ASSERT_TRUE(volume_.fs().set_xattr(file, "user.long", std::as_bytes(std::span(value)), XattrMode::kCreate,
                                     SetgidBit::kKeep));
  ASSERT_NO_FATAL_FAILURE(unmount());
  const auto stat = volume_.debugfs("stat /file");
  const auto at = stat.find("File ACL: ");
  ASSERT_NE(at, stat.npos);
  const std::uint64_t block = std::stoull(stat.substr(at + 10));
  ASSERT_NE(block, 0U);
  ASSERT_NO_FATAL_FAILURE(leave_only({block}));
  mount_again();
  const auto again = volume_.fs().lookup(kRootInode, "file")->inode;
  EXPECT_EQ(write(again, 0, 1024), Errno(EUCLEAN));
  expect_told(fmt::format(", block {}", block));
  EXPECT_TRUE(volume_.fs().unmount());
  EXPECT_NE(volume_.debugfs("ea_list /file").find("user.long (600)"), std::string::npos);
}

// A group that takes nothing back any more holds up none of the others.
TEST_P(Distrust, WhatIsRemovedBesideADamagedGroup) {
  const auto file = volume_.make_file(kRootInode, "file");
  for (const std::uint64_t mebibyte : {0, 2})
    volume_.write(file, mebibyte << 20, std::string(650 << 10, 'o'));
  ASSERT_NO_FATAL_FAILURE(unmount());
  const auto blocks = blocks_of("/file");
  const auto last_group = std::ranges::max(blocks) / 1024;
  const auto damaged = std::ranges::find_if(blocks, [&](auto block) { return block / 1024 == last_group; });
  ASSERT_NE(std::ranges::min(blocks) / 1024, last_group) << "in more than one group";
  change(fmt::format("freeb {}", *damaged + 3));
  mount_again();
  const auto free_before = volume_.fs().statistics()->free_blocks;
  EXPECT_EQ(volume_.fs().lookup(kRootInode, "file")->inode, file);
  ASSERT_TRUE(volume_.fs().unlink(kRootInode, "file"));
  volume_.fs().forget(file, 1);
  EXPECT_GT(volume_.fs().statistics()->free_blocks, free_before + 200);
  expect_told("free");
}

TEST_P(Distrust, AnInodeThatIsInUse) {
  const auto file = volume_.make_file(kRootInode, "file");
  volume_.write(file, 0, "mine");
  ASSERT_NO_FATAL_FAILURE(unmount());
  change(fmt::format("freei <{}>", file));
  mount_again();
  const auto made = volume_.fs().make(kRootInode, "other", {.mode = S_IFREG | 0644});
  if (made) {
    EXPECT_NE(made->inode, file);
  } else {
    EXPECT_EQ(made.error(), Errno(EUCLEAN));
  }
  expect_told(fmt::format("calls an inode free that is in use, inode {}", file));
  EXPECT_TRUE(volume_.fs().unmount());
  EXPECT_EQ(volume_.debugfs("cat /file"), "mine");
}

constexpr const char* kNames[] = {"Checksums", "Extents", "Indirect"};
const auto kForms =
    testing::Values("-t ext4 -O ^has_journal", "-t ext4 -O ^has_journal,^metadata_csum", "-t ext2");
std::string name_of(const testing::TestParamInfo<const char*>& info) { return kNames[info.index]; }
INSTANTIATE_TEST_SUITE_P(Forms, Distrust, kForms, name_of);
INSTANTIATE_TEST_SUITE_P(Forms, DistrustInOneGroup, kForms, name_of);

// Nothing is taken from it, so what it says does not matter.
TEST(DistrustReading, ADamagedBitmapKeepsNobodyFromReading) {
  TestVolume volume("-t ext4 -b 1024 -O ^has_journal -N 64", "2M");
  volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, "text");
  const std::string value(600, 'v');
  ASSERT_TRUE(volume.fs().set_xattr(file, "user.long", std::as_bytes(std::span(value)), XattrMode::kCreate,
                                    SetgidBit::kKeep));
  ASSERT_EQ(volume.unmount_and_check(), "");
  volume.events.echo = false;
  for (const char* const which : {"Inode bitmap at ", "Block bitmap at "}) {
    const auto figures = run("dumpe2fs " + volume.image().string()).output;
    const std::uint64_t block = std::stoull(figures.substr(figures.find(which) + std::strlen(which)));
    ASSERT_EQ(run(fmt::format("dd if=/dev/zero of={} bs=1024 seek={} count=1 conv=notrunc",
                              volume.image().string(), block))
                  .status,
              0);
  }
  volume.mount({.access = cache::Access::kReadOnly});
  const auto found = volume.fs().lookup(kRootInode, "file");
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(volume.read(found->inode, 0, 10), "text");
  EXPECT_TRUE(volume.fs().xattr(found->inode, "user.long"));
  EXPECT_TRUE(volume.events.corruptions.empty());
  EXPECT_FALSE(volume.events.notices.empty());
}

}  // namespace
}  // namespace fuse4fs::ext4
