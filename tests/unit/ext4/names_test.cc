// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

TEST(Names, LengthsAndCharacters) {
  TestVolume volume;
  auto& fs = volume.mount();
  const std::string longest(255, 'n');
  volume.make_file(kRootInode, longest);
  EXPECT_TRUE(fs.lookup(kRootInode, longest));
  const std::string longer(256, 'n');
  EXPECT_EQ(fs.lookup(kRootInode, longer).error(), Errno(ENAMETOOLONG));
  EXPECT_EQ(fs.make(kRootInode, longer, {.mode = S_IFREG}).error(), Errno(ENAMETOOLONG));
  EXPECT_EQ(fs.rename(kRootInode, longest, kRootInode, longer, {.mode = RenameMode::kReplace}).error(),
            Errno(ENAMETOOLONG));
  EXPECT_EQ(fs.make(kRootInode, "a/b", {.mode = S_IFREG}).error(), Errno(EINVAL));
  EXPECT_EQ(fs.make(kRootInode, "", {.mode = S_IFREG}).error(), Errno(ENOENT));
  EXPECT_FALSE(fs.make(kRootInode, ".", {.mode = S_IFREG}));
  EXPECT_FALSE(fs.unlink(kRootInode, ".."));
  EXPECT_EQ(fs.make(kRootInode, longest, {.mode = S_IFREG}).error(), Errno(EEXIST));
  EXPECT_EQ(fs.make_symlink(kRootInode, "l", std::string(4096, 'x'), {}).error(), Errno(ENAMETOOLONG));
  EXPECT_TRUE(fs.make_symlink(kRootInode, "l", std::string(4095, 'x'), {}));
  EXPECT_TRUE(fs.make_symlink(kRootInode, "l59", std::string(59, 'x'), {}));
  EXPECT_TRUE(fs.make_symlink(kRootInode, "l60", std::string(60, 'x'), {}));
  EXPECT_EQ(fs.lookup(kRootInode, "l59")->sectors, 0U);
  EXPECT_EQ(fs.lookup(kRootInode, "l60")->sectors, 8U);
  EXPECT_EQ(fs.symlink_target(fs.lookup(kRootInode, "l60")->inode).value(), std::string(60, 'x'));
  EXPECT_EQ(fs.lookup(volume.make_file(kRootInode, "file"), "x").error(), Errno(ENOTDIR));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Names, DotsAreLookedUp) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto a = volume.make_directory(kRootInode, "a");
  const auto b = volume.make_directory(a, "b");
  EXPECT_EQ(fs.lookup(b, "..")->inode, a);
  EXPECT_EQ(fs.lookup(b, ".")->inode, b);
  ASSERT_TRUE(fs.rename(a, "b", kRootInode, "b", {.mode = RenameMode::kReplace}));
  EXPECT_EQ(fs.lookup(b, "..")->inode, kRootInode);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Names, RenameModes) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto a = volume.make_directory(kRootInode, "a");
  const auto b = volume.make_directory(kRootInode, "b");
  const auto file = volume.make_file(a, "file");
  const auto sub = volume.make_directory(b, "sub");
  EXPECT_EQ(fs.rename(a, "file", b, "sub", {.mode = RenameMode::kNoReplace}).error(), Errno(EEXIST));
  EXPECT_EQ(fs.rename(a, "file", b, "sub", {.mode = RenameMode::kReplace}).error(), Errno(EISDIR));
  EXPECT_EQ(fs.rename(b, "sub", a, "file", {.mode = RenameMode::kReplace}).error(), Errno(ENOTDIR));
  EXPECT_EQ(fs.rename(a, "file", b, "none", {.mode = RenameMode::kExchange}).error(), Errno(ENOENT));
  EXPECT_EQ(fs.rename(a, "none", b, "x", {.mode = RenameMode::kReplace}).error(), Errno(ENOENT));
  ASSERT_TRUE(fs.rename(a, "file", b, "sub", {.mode = RenameMode::kExchange}));
  EXPECT_EQ(fs.lookup(b, "sub")->inode, file);
  EXPECT_EQ(fs.lookup(a, "file")->inode, sub);
  EXPECT_EQ(fs.lookup(sub, "..")->inode, a);
  EXPECT_EQ(fs.attributes(a)->links, 3U);
  EXPECT_EQ(fs.attributes(b)->links, 2U);
  // Over an empty directory, and not over one that is not.
  const auto c = volume.make_directory(kRootInode, "c");
  EXPECT_EQ(fs.rename(kRootInode, "c", kRootInode, "a", {.mode = RenameMode::kReplace}).error(),
            Errno(ENOTEMPTY));
  ASSERT_TRUE(fs.rename(kRootInode, "c", a, "file", {.mode = RenameMode::kReplace}));
  EXPECT_EQ(fs.lookup(a, "file")->inode, c);
  EXPECT_EQ(fs.attributes(a)->links, 3U);
  EXPECT_EQ(fs.attributes(kRootInode)->links, 5U);  // lost+found, a, b
  // Over another file, and over another name of the same file.
  volume.make_file(kRootInode, "one");
  volume.make_file(kRootInode, "two");
  ASSERT_TRUE(fs.rename(kRootInode, "one", kRootInode, "two", {.mode = RenameMode::kReplace}));
  EXPECT_EQ(fs.lookup(kRootInode, "one").error(), Errno(ENOENT));
  ASSERT_TRUE(fs.link(fs.lookup(kRootInode, "two")->inode, kRootInode, "three"));
  ASSERT_TRUE(fs.rename(kRootInode, "two", kRootInode, "three", {.mode = RenameMode::kReplace}));
  EXPECT_TRUE(fs.lookup(kRootInode, "two"));
  EXPECT_EQ(fs.rename(kRootInode, "a", c, "inside", {.mode = RenameMode::kReplace}).error(), Errno(EINVAL));
  EXPECT_EQ(fs.rename(kRootInode, "a", a, "file", {.mode = RenameMode::kExchange}).error(), Errno(EINVAL));
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

TEST(Names, UnlinkedInodesLiveUntilForgotten) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto before = fs.statistics().value();
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, std::string(100'000, 'x'));
  ASSERT_TRUE(fs.lookup(kRootInode, "file"));
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  EXPECT_EQ(fs.attributes(file)->links, 0U);
  volume.write(file, 100'000, "more");
  EXPECT_EQ(volume.read(file, 99'999, 10), "xmore");
  EXPECT_EQ(fs.link(file, kRootInode, "again").error(), Errno(ENOENT));
  fs.forget(file, 1);
  EXPECT_TRUE(fs.attributes(file));
  fs.forget(file, 1);
  EXPECT_FALSE(fs.look_up_inode(file));
  EXPECT_EQ(fs.statistics()->free_blocks, before.free_blocks);
  EXPECT_EQ(fs.statistics()->free_inodes, before.free_inodes);
  // One that nobody knows goes at once, one that is still known at unmount goes then.
  const auto unknown = volume.make_file(kRootInode, "unknown");
  fs.forget(unknown, 1);
  ASSERT_TRUE(fs.unlink(kRootInode, "unknown"));
  EXPECT_EQ(fs.statistics()->free_inodes, before.free_inodes);
  const auto open = volume.make_directory(kRootInode, "open");
  ASSERT_TRUE(fs.remove_directory(kRootInode, "open"));
  EXPECT_EQ(volume.list(open).size(), 0U);
  EXPECT_EQ(fs.make(open, "x", {.mode = S_IFREG}).error(), Errno(ENOENT));
  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty());
}

// As ext4: its map is looked at when it goes, not while its directory is locked.
TEST(Names, ThatLeadToADamagedMapCanBeRemoved) {
  constexpr std::uint64_t kBlock = 1024;
  TestVolume volume("-t ext4 -b 1024");
  volume.mount();
  const auto number = volume.make_file(kRootInode, "file");
  for (std::uint64_t i = 0; i < 400; ++i) volume.write(number, 2 * i * kBlock, "x");
  volume.make_file(kRootInode, "other");
  ASSERT_EQ(volume.unmount_and_check(), "");
  // The first node of the second level.
  const auto leaf = run("debugfs -R 'dump_extents -n file' " + volume.image().string() +
                        " 2>/dev/null | awk '/^ *1\\//{ print $8; exit }'");
  ASSERT_NE(std::stoul(leaf.output), 0U);
  {
    std::fstream image(volume.image(), std::ios::in | std::ios::out | std::ios::binary);
    image.seekp(static_cast<std::streamoff>(std::stoul(leaf.output) * kBlock));
    image << "no node";
  }
  auto& fs = volume.mount();
  volume.events.echo = false;
  ASSERT_TRUE(fs.lookup(kRootInode, "file"));
  EXPECT_TRUE(fs.rename(kRootInode, "other", kRootInode, "another", {}));
  EXPECT_TRUE(fs.unlink(kRootInode, "file"));
  EXPECT_EQ(fs.lookup(kRootInode, "file").error(), Errno(ENOENT));
  EXPECT_TRUE(volume.events.corruptions.empty());
  fs.forget(number, 1);
  EXPECT_FALSE(volume.events.corruptions.empty());
}

TEST(Names, ManyInOneDirectory) {
  TestVolume volume("-t ext4 -N 30000", "128M");
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "many");
  const auto begin = std::chrono::steady_clock::now();
  constexpr int kCount = 20'000;
  for (int i = 0; i < kCount; ++i) {
    const auto name = fmt::format("file number {}", i);
    ASSERT_EQ(fs.lookup(directory, name).error(), Errno(ENOENT));
    const auto made = fs.make(directory, name, {.mode = S_IFREG | 0644});
    ASSERT_TRUE(made);
    fs.forget(made->inode, 1);
  }
  const auto took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%d creates: %.0f/s\n", kCount, kCount / took);
  EXPECT_LT(took, 20.0);
  const auto names = volume.list(directory);
  EXPECT_EQ(names.size(), kCount + 2U);
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
  for (int i = 0; i < kCount; ++i) ASSERT_TRUE(fs.unlink(directory, fmt::format("file number {}", i)));
  ASSERT_TRUE(fs.remove_directory(kRootInode, "many"));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Names, CookiesSurviveChanges) {
  TestVolume volume("-t ext4 -b 1024");
  auto& fs = volume.mount();
  for (int i = 0; i < 500; ++i) volume.make_file(kRootInode, fmt::format("stays {}", i));
  for (int i = 0; i < 500; ++i) volume.make_file(kRootInode, fmt::format("goes {}", i));
  std::multiset<std::string> seen;
  std::uint64_t cookie = 0;
  for (bool more = true; more;) {
    more = false;
    std::vector<std::string> batch;
    ASSERT_TRUE(fs.read_directory(kRootInode, cookie, [&](const DirectoryEntry& entry) {
      if (batch.size() == 13) return false;
      batch.emplace_back(entry.name);
      cookie = entry.next;
      return more = true;
    }));
    for (const auto& name : batch) {
      seen.insert(name);
      // As rm -r does it.
      if (!name.starts_with("goes")) continue;
      ASSERT_TRUE(fs.unlink(kRootInode, name));
    }
  }
  EXPECT_EQ(seen.size(), 1003U);
  for (int i = 0; i < 500; ++i) EXPECT_EQ(seen.count(fmt::format("stays {}", i)), 1U);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Names, LinkLimits) {
  TestVolume volume("-t ext4 -b 4096 -O ^dir_nlink");
  volume.mount();
  const auto directory = volume.make_directory(kRootInode, "directory");
  volume.make_file(kRootInode, "file");
  volume.unmount();
  const auto set_links = [&](const std::string& name, int links) {
    const auto command = fmt::format("debugfs -w -R 'sif /{} links_count {}' ", name, links);
    ASSERT_EQ(run(command + volume.image().string()).status, 0);
  };
  set_links("directory", 64999);
  set_links("file", 65000);
  auto& fs = volume.mount();
  volume.make_directory(directory, "one");
  EXPECT_EQ(fs.attributes(directory)->links, 65000U);
  EXPECT_EQ(fs.make(directory, "two", {.mode = S_IFDIR | 0755}).error(), Errno(EMLINK));
  EXPECT_EQ(fs.link(fs.lookup(kRootInode, "file")->inode, kRootInode, "more").error(), Errno(EMLINK));
  volume.unmount();
  set_links("directory", 3);
  set_links("file", 1);
  EXPECT_EQ(volume.check(), "");
}

TEST(Names, WhatANewInodeTakesOver) {
  TestVolume volume;
  volume.mount();
  volume.make_directory(kRootInode, "directory");
  volume.unmount();
  // setgid, and the flags d (nodump), D (dirsync), A (noatime) and j (journal data).
  ASSERT_EQ(run("debugfs -w -R 'sif /directory mode 042755' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /directory gid 100000' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /directory flags 0x000940c0' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  const auto directory = fs.lookup(kRootInode, "directory")->inode;
  EXPECT_EQ(fs.attributes(directory)->gid, 100'000U);
  const auto file = fs.make(directory, "file", {.mode = S_IFREG | 0644, .uid = 70'000, .gid = 5});
  EXPECT_EQ(file->gid, 100'000U);
  EXPECT_EQ(file->uid, 70'000U);
  EXPECT_EQ(file->mode, S_IFREG | 0644U);
  EXPECT_EQ(file->flags, 0x000840c0U);
  const auto sub = fs.make(directory, "sub", {.mode = S_IFDIR | 0700, .gid = 5});
  EXPECT_EQ(sub->mode, S_IFDIR | S_ISGID | 0700U);
  EXPECT_EQ(sub->flags, 0x000940c0U);
  const auto pipe = fs.make(directory, "pipe", {.mode = S_IFIFO | 0700});
  EXPECT_EQ(pipe->flags, 0x000000c0U);
  EXPECT_NE(file->generation, sub->generation);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Names, ImmutableAndAppendOnly) {
  TestVolume volume;
  volume.mount();
  for (const char* name : {"fixed", "log"}) volume.write(volume.make_file(kRootInode, name), 0, "text");
  volume.make_file(volume.make_directory(kRootInode, "closed"), "inside");
  volume.unmount();
  ASSERT_EQ(run("debugfs -w -R 'sif /fixed flags 0x80010' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /log flags 0x80020' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /closed flags 0x80010' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  const auto fixed = fs.lookup(kRootInode, "fixed")->inode;
  const auto log = fs.lookup(kRootInode, "log")->inode;
  const auto closed = fs.lookup(kRootInode, "closed")->inode;
  const std::string text = "x";
  EXPECT_EQ(fs.write(fixed, 0, std::as_bytes(std::span(text)), AttributeChanges::Privileges::kKeep).error(),
            Errno(EPERM));
  EXPECT_EQ(fs.set_attributes(fixed, {.size = 0}).error(), Errno(EPERM));
  EXPECT_EQ(fs.set_attributes(fixed, {.permissions = 0}).error(), Errno(EPERM));
  EXPECT_EQ(fs.unlink(kRootInode, "fixed").error(), Errno(EPERM));
  EXPECT_EQ(fs.link(fixed, kRootInode, "more").error(), Errno(EPERM));
  EXPECT_EQ(fs.rename(kRootInode, "fixed", kRootInode, "x", {.mode = RenameMode::kReplace}).error(),
            Errno(EPERM));
  EXPECT_EQ(fs.set_attributes(log, {.size = 0}).error(), Errno(EPERM));
  EXPECT_TRUE(fs.write(log, 4, std::as_bytes(std::span(text)), AttributeChanges::Privileges::kKeep));
  EXPECT_EQ(fs.unlink(kRootInode, "log").error(), Errno(EPERM));
  EXPECT_EQ(fs.make(closed, "x", {.mode = S_IFREG}).error(), Errno(EPERM));
  EXPECT_EQ(fs.unlink(closed, "inside").error(), Errno(EPERM));
  EXPECT_EQ(fs.rename(closed, "inside", kRootInode, "x", {.mode = RenameMode::kReplace}).error(),
            Errno(EPERM));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
