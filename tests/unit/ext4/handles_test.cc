// SPDX-License-Identifier: GPL-2.0-or-later
// Inode numbers out of file handles, files without names, and what stands in for what moved.
#include <cstdint>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

TEST(Handles, AFileIsFoundByItsNumber) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "directory");
  const auto file = fs.make(directory, "file", {.mode = S_IFREG | 0644}).value();
  const auto pipe = volume.make_file(directory, "pipe", S_IFIFO | 0600);
  volume.unmount();
  auto& again = volume.mount();
  const auto found = again.look_up_handle(file.inode);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->inode, file.inode);
  EXPECT_EQ(found->generation, file.generation);
  EXPECT_EQ(again.lookup(pipe, ".")->inode, pipe) << "of whatever type";
  EXPECT_EQ(again.look_up_handle(kRootInode)->inode, kRootInode);
  EXPECT_EQ(again.lookup(directory, "..")->inode, kRootInode);
  EXPECT_EQ(again.lookup(file.inode, "..").error(), Errno(ENOTDIR));
  // It counts as a look-up.
  ASSERT_TRUE(again.unlink(directory, "file"));
  EXPECT_TRUE(again.attributes(file.inode));
  again.forget(file.inode, 1);
  EXPECT_EQ(again.look_up_handle(file.inode).error(), Errno(ESTALE));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Handles, WhatIsNoFileIsStaleAndNothingElse) {
  TestVolume volume("-t ext4 -O orphan_file,ea_inode,quota");
  volume.mount({.access = cache::Access::kReadOnly});
  auto& fs = volume.fs();
  std::vector<std::uint64_t> numbers = {
      0, 1, UINT32_MAX, std::uint64_t{1} << 32, (std::uint64_t{1} << 32) + 2, UINT64_MAX};
  for (std::uint64_t number = 3; number < 11; ++number) numbers.push_back(number);
  // lost+found is 11, the orphan file and quota files come next, the rest is free.
  for (std::uint64_t number = 12; number < 100; ++number) numbers.push_back(number);
  for (const std::uint64_t number : {8192, 16384, 16385, 16386}) numbers.push_back(number);
  for (const auto number : numbers) {
    const auto found = fs.look_up_handle(number);
    ASSERT_FALSE(found) << number;
    EXPECT_EQ(found.error(), Errno(ESTALE)) << number;
  }
  EXPECT_TRUE(fs.look_up_handle(11));
  EXPECT_TRUE(volume.events.corruptions.empty());
  EXPECT_TRUE(volume.events.notices.empty());
  volume.unmount();
}

TEST(Handles, AnUnlinkedFileIsFoundAsLongAsItIsKnown) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  EXPECT_TRUE(fs.look_up_handle(file));
  fs.forget(file, 1);
  EXPECT_TRUE(fs.look_up_handle(file));
  fs.forget(file, 2);
  EXPECT_EQ(fs.look_up_handle(file).error(), Errno(ESTALE));
  const auto gone = volume.make_directory(kRootInode, "gone");
  ASSERT_TRUE(fs.remove_directory(kRootInode, "gone"));
  EXPECT_TRUE(fs.look_up_handle(gone));
  EXPECT_EQ(fs.lookup(gone, "..").error(), Errno(ENOENT));
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

TEST(Handles, OneThatWasLeftUnlinkedByACrashIsStale) {
  TestVolume volume;
  volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  volume.unmount();
  ASSERT_EQ(run("debugfs -w -R 'sif /file links_count 0' " + volume.image().string()).status, 0);
  EXPECT_EQ(volume.mount().look_up_handle(file).error(), Errno(ESTALE));
  EXPECT_TRUE(volume.events.corruptions.empty());
  volume.unmount();
}

TEST(Temporary, GetsANameOnce) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto made = fs.make_temporary(kRootInode, {.mode = S_IFREG | 0640, .uid = 7, .gid = 8}).value();
  EXPECT_EQ(made.links, 0U);
  EXPECT_EQ(made.mode, S_IFREG | 0640U);
  EXPECT_EQ(made.uid, 7U);
  EXPECT_EQ(made.gid, 8U);
  volume.write(made.inode, 0, "content");
  ASSERT_TRUE(fs.set_attributes(made.inode, {.permissions = 0600}));
  const auto named = fs.link(made.inode, kRootInode, "name");
  ASSERT_TRUE(named);
  EXPECT_EQ(named->links, 1U);
  fs.forget(made.inode, 2);
  EXPECT_EQ(volume.read(fs.lookup(kRootInode, "name")->inode, 0, 100), "content");
  ASSERT_TRUE(fs.link(made.inode, kRootInode, "second"));
  ASSERT_TRUE(fs.unlink(kRootInode, "name"));
  ASSERT_TRUE(fs.unlink(kRootInode, "second"));
  EXPECT_EQ(fs.link(made.inode, kRootInode, "third").error(), Errno(ENOENT)) << "it is a deleted one now";
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

TEST(Temporary, GoesWithoutAName) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto before = fs.statistics().value();
  const auto forgotten = fs.make_temporary(kRootInode, {.mode = S_IFREG | 0600})->inode;
  volume.write(forgotten, 0, std::string(100'000, 'x'));
  EXPECT_LT(fs.statistics()->free_blocks, before.free_blocks);
  fs.forget(forgotten, 1);
  EXPECT_EQ(fs.statistics()->free_blocks, before.free_blocks);
  EXPECT_EQ(fs.statistics()->free_inodes, before.free_inodes);
  // One that is open to the end goes at unmount.
  volume.write(fs.make_temporary(kRootInode, {.mode = S_IFREG | 0600})->inode, 0, "open");
  ASSERT_EQ(volume.unmount_and_check(), "");
  volume.mount();
  EXPECT_EQ(volume.fs().statistics()->free_inodes, before.free_inodes);
  volume.unmount();
}

TEST(Temporary, IsMadeLikeAFileInItsDirectory) {
  TestVolume volume;
  volume.mount();
  volume.make_directory(kRootInode, "directory");
  volume.make_directory(kRootInode, "closed");
  volume.unmount();
  // setgid; d (nodump) and D (dirsync), the latter for directories only; i (immutable).
  ASSERT_EQ(run("debugfs -w -R 'sif /directory mode 042755' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /directory gid 100000' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /directory flags 0x00090040' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /closed flags 0x80010' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  const auto directory = fs.lookup(kRootInode, "directory")->inode;
  const auto made = fs.make_temporary(directory, {.mode = S_IFREG | 0600, .gid = 5}).value();
  EXPECT_EQ(made.gid, 100'000U);
  EXPECT_EQ(made.flags, 0x00080040U);
  EXPECT_EQ(fs.make_temporary(fs.lookup(kRootInode, "closed")->inode, {.mode = S_IFREG}).error(),
            Errno(EPERM));
  EXPECT_EQ(fs.make_temporary(made.inode, {.mode = S_IFREG}).error(), Errno(ENOTDIR));
  EXPECT_EQ(fs.make_temporary(directory, {.mode = S_IFDIR}).error(), Errno(EINVAL));
  const auto gone = volume.make_directory(kRootInode, "gone");
  ASSERT_TRUE(fs.remove_directory(kRootInode, "gone"));
  EXPECT_EQ(fs.make_temporary(gone, {.mode = S_IFREG}).error(), Errno(EPERM)) << "as ext4 says it";
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Whiteout, StandsInForWhatMoved) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto free_inodes = fs.statistics()->free_inodes;
  const RenameOptions replace{.whiteout = NewInode{.mode = S_IFCHR, .uid = 3, .gid = 4}};
  const auto a = volume.make_directory(kRootInode, "a");
  const auto b = volume.make_directory(kRootInode, "b");
  const auto file = volume.make_file(a, "file");
  ASSERT_TRUE(fs.rename(a, "file", a, "moved", replace)) << "in one directory";
  const auto whiteout = fs.lookup(a, "file").value();
  EXPECT_EQ(whiteout.mode, mode_t{S_IFCHR});
  EXPECT_EQ(whiteout.device, 0U);
  EXPECT_EQ(whiteout.links, 1U);
  EXPECT_EQ(whiteout.uid, 3U);
  EXPECT_EQ(whiteout.gid, 4U);
  EXPECT_EQ(fs.lookup(a, "moved")->inode, file);
  volume.make_file(b, "other");
  ASSERT_TRUE(fs.rename(a, "moved", b, "other", replace)) << "over another, elsewhere";
  EXPECT_EQ(fs.lookup(b, "other")->inode, file);
  EXPECT_EQ(fs.lookup(a, "moved")->mode, mode_t{S_IFCHR});
  // A directory: its parent counts it no more.
  volume.make_directory(a, "sub");
  EXPECT_EQ(fs.attributes(a)->links, 3U);
  ASSERT_TRUE(fs.rename(a, "sub", b, "sub", replace));
  EXPECT_EQ(fs.attributes(a)->links, 2U);
  EXPECT_EQ(fs.attributes(b)->links, 3U);
  // What is refused leaves none behind.
  const auto before = fs.statistics()->free_inodes;
  EXPECT_EQ(
      fs.rename(b, "other", b, "sub", {.mode = RenameMode::kNoReplace, .whiteout = replace.whiteout}).error(),
      Errno(EEXIST));
  EXPECT_EQ(
      fs.rename(b, "other", b, "sub", {.mode = RenameMode::kExchange, .whiteout = replace.whiteout}).error(),
      Errno(EINVAL));
  EXPECT_EQ(fs.rename(b, "other", b, "sub", replace).error(), Errno(EISDIR));
  EXPECT_EQ(fs.statistics()->free_inodes, before);
  ASSERT_TRUE(
      fs.rename(b, "other", b, "new", {.mode = RenameMode::kNoReplace, .whiteout = replace.whiteout}));
  for (const char* name : {"file", "moved", "sub"}) ASSERT_TRUE(fs.unlink(a, name));
  fs.forget(whiteout.inode, 1);
  for (const char* name : {"other", "new"}) ASSERT_TRUE(fs.unlink(b, name));
  ASSERT_TRUE(fs.remove_directory(b, "sub"));
  ASSERT_TRUE(fs.remove_directory(kRootInode, "a"));
  ASSERT_TRUE(fs.remove_directory(kRootInode, "b"));
  ASSERT_EQ(volume.unmount_and_check(), "");
  volume.mount();
  EXPECT_EQ(volume.fs().statistics()->free_inodes, free_inodes);
  volume.unmount();
  EXPECT_TRUE(volume.events.corruptions.empty());
}

TEST(Whiteout, NeedsAFreeInode) {
  TestVolume volume("-t ext4 -N 16", "8M");
  auto& fs = volume.mount();
  volume.make_file(kRootInode, "file");
  for (int i = 0; fs.statistics()->free_inodes > 0; ++i)
    volume.make_file(kRootInode, "f" + std::to_string(i));
  EXPECT_EQ(
      fs.rename(kRootInode, "file", kRootInode, "moved", {.whiteout = NewInode{.mode = S_IFCHR}}).error(),
      Errno(ENOSPC));
  EXPECT_TRUE(fs.lookup(kRootInode, "file"));
  EXPECT_EQ(fs.lookup(kRootInode, "moved").error(), Errno(ENOENT));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
