// SPDX-License-Identifier: GPL-2.0-or-later
// Directories that were made to do harm, and files that may only grow.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "server/ext4/credits.h"
#include "server/ext4/metadata.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

void change(const TestVolume& volume, const std::string& command) {
  const auto done = run("debugfs -w -R '" + command + "' " + volume.image().string());
  ASSERT_EQ(done.status, 0) << done.output;
}

TEST(Protection, ABlockTwiceInADirectory) {
  TestVolume volume("-t ext2 -b 1024 -O ^dir_index", "8M");
  volume.events.echo = false;
  volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  volume.unmount();
  const auto block = std::stoul(volume.debugfs("bmap /d 0"));
  change(volume, fmt::format("sif /d block[1] {}", block));
  change(volume, "sif /d size 2048");
  change(volume, "sif /d blocks 4");
  auto& fs = volume.mount();
  EXPECT_EQ(fs.lookup(directory, "x").error(), kCorrupted);
  ASSERT_EQ(volume.events.corruptions.size(), 1U);
  EXPECT_EQ(volume.events.corruptions[0],
            fmt::format("a directory holds a block twice, inode {}, block {}", directory, block));
  volume.unmount();
}

TEST(Protection, ADirectoryThatOwnsFewerBlocksThanItHas) {
  TestVolume volume("-t ext4 -b 1024 -O ^metadata_csum", "8M");
  volume.events.echo = false;
  volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  for (int i = 0; i < 100; ++i) volume.make_file(directory, fmt::format("a long enough name {}", i));
  ASSERT_EQ(volume.unmount_and_check(), "");
  change(volume, "sif /d blocks 4");
  EXPECT_EQ(volume.mount().lookup(directory, "x").error(), kCorrupted);
  volume.unmount();
}

TEST(Protection, ADirectoryInsideItselfIsNotRenamed) {
  TestVolume volume("-t ext4 -b 4096 -O ^metadata_csum", "8M");
  volume.events.echo = false;
  volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  volume.make_file(directory, "f");
  volume.unmount();
  change(volume, "link /d /d/self");
  auto& fs = volume.mount({.errors = ErrorPolicy::kContinue});
  for (const auto mode : {RenameMode::kReplace, RenameMode::kExchange}) {
    const auto* const other = mode == RenameMode::kExchange ? "f" : "y";
    EXPECT_EQ(fs.rename(directory, "self", directory, other, {.mode = mode}).error(), kCorrupted);
    EXPECT_EQ(fs.rename(directory, "f", directory, "self", {.mode = mode}).error(), kCorrupted);
  }
  EXPECT_EQ(fs.rename(directory, "self", kRootInode, "y", {.mode = RenameMode::kReplace}).error(),
            kCorrupted);
  volume.unmount();
}

TEST(Protection, AppendOnly) {
  for (const auto* const form :
       {"-t ext4 -b 1024 -O ^metadata_csum", "-t ext4 -O ^metadata_csum,inline_data"}) {
    TestVolume volume(form, "16M");
    volume.mount();
    const auto file = volume.make_file(kRootInode, "log");
    volume.write(file, 0, "abcdef");
    volume.unmount();
    const auto flags = volume.mount().attributes(file)->flags;
    volume.unmount();
    change(volume, fmt::format("sif /log flags {:#x}", flags | 0x20));
    auto& fs = volume.mount();
    const auto write = [&](std::uint64_t offset, std::string_view text) {
      const auto done =
          fs.write(file, offset, std::as_bytes(std::span(text)), AttributeChanges::Privileges::kKeep);
      return done ? Errno(0) : done.error();
    };
    EXPECT_EQ(write(0, "Abcdef"), Errno(EPERM));
    EXPECT_EQ(write(4, "eXgh"), Errno(EPERM));
    EXPECT_EQ(write(5, "x"), Errno(EPERM));
    EXPECT_EQ(write(0, "abcdefgh"), Errno(0));
    EXPECT_EQ(write(7, "hij"), Errno(0));
    EXPECT_EQ(write(10, std::string(5000, 'k')), Errno(0));
    EXPECT_EQ(write(4000, std::string(100, 'x')), Errno(EPERM));
    EXPECT_EQ(volume.read(file, 0, 12), "abcdefghijkk");
    EXPECT_EQ(fs.attributes(file)->size, 5010U);
    EXPECT_EQ(volume.unmount_and_check(), "") << form;
  }
}

// Past the bound on names in memory a directory works as before, only slower.
TEST(Protection, MoreNamesThanAreKept) {
  TestVolume volume("-t ext4 -b 1024 -O ^dir_index", "16M");
  volume.mount();
  const auto number = volume.make_directory(kRootInode, "d");
  for (int i = 0; i < 300; ++i) volume.make_file(number, fmt::format("a long enough name {}", i));
  ASSERT_EQ(volume.unmount_and_check(), "");
  {
    UniqueFd fd(::open(volume.image().c_str(), O_RDWR | O_CLOEXEC));
    auto device = cache::BlockDevice::adopt(std::move(fd), UniqueFd(), cache::Access::kReadWrite);
    ASSERT_TRUE(device);
    auto opened = Volume::open(std::move(*device), {}, volume.events);
    ASSERT_TRUE(opened);
    Metadata metadata(**opened);
    Directory few(**opened, metadata.blocks, metadata.extents, metadata.inline_data, 100);
    auto inode = metadata.inodes.read(number).value();
    const auto file = few.find(inode, "a long enough name 7").value().value();
    EXPECT_EQ(few.names_in_memory(), 0U);
    for (int i = 0; i < 300; ++i)
      ASSERT_TRUE(few.find(inode, fmt::format("a long enough name {}", i)).value()) << i;
    EXPECT_FALSE(few.find(inode, "another").value());
    auto seven = metadata.inodes.read(file).value();
    std::optional handle((*opened)->journal().start(credits::of_replay));
    for (int i = 0; i < 50; ++i) {
      ASSERT_TRUE(few.insert(inode, fmt::format("one more name {}", i), file, S_IFREG));
      ++seven.raw.i_links_count;
    }
    for (int i = 0; i < 50; i += 2) {
      ASSERT_TRUE(few.remove(inode, fmt::format("one more name {}", i)));
      --seven.raw.i_links_count;
    }
    ASSERT_TRUE(metadata.inodes.write(seven));
    EXPECT_TRUE(few.find(inode, "one more name 1").value());
    EXPECT_FALSE(few.find(inode, "one more name 2").value());
    handle.reset();
    ASSERT_TRUE((*opened)->mark_clean());
  }
  EXPECT_EQ(volume.check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
