// SPDX-License-Identifier: GPL-2.0-or-later
// Directories inside their inodes: made so, filled, moved to a block. Whether the kernel does the same is for
// tests/mount/inline_test.cc.
#include <fmt/format.h>

#include <algorithm>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t kFirstStretch = 60;

class InlineDirectories : public testing::Test {
 protected:
  Attributes attributes(InodeNumber inode) { return volume_.fs().attributes(inode).value(); }
  [[nodiscard]] bool is_inside(InodeNumber inode) { return (attributes(inode).flags & 0x10000000) != 0; }

  TestVolume volume_{"-t ext4 -b 1024 -O inline_data -I 256"};
};

TEST_F(InlineDirectories, GrowOverBothStretchesIntoABlock) {
  volume_.mount();
  const auto directory = volume_.make_directory(kRootInode, "d");
  EXPECT_EQ(attributes(directory).size, kFirstStretch);
  EXPECT_EQ(attributes(directory).sectors, 0U);
  EXPECT_EQ(volume_.list(directory), (std::vector<std::string>{".", ".."}));
  std::vector<std::string> names;
  std::vector<std::uint64_t> sizes;
  for (int i = 0; is_inside(directory); ++i) {
    ASSERT_LT(i, 30);
    names.push_back(fmt::format("name {}", i));
    volume_.make_file(directory, names.back());
    sizes.push_back(attributes(directory).size);
    auto& fs = volume_.fs();
    for (const auto& name : names) EXPECT_TRUE(fs.lookup(directory, name)) << name;
    EXPECT_EQ(fs.lookup(directory, "..")->inode, kRootInode);
    EXPECT_EQ(fs.remove_directory(kRootInode, "d").error(), Errno(ENOTEMPTY));
    ASSERT_EQ(volume_.list(directory).size(), names.size() + 2);
    ASSERT_EQ(volume_.unmount_and_check(), "");
    volume_.mount();
  }
  EXPECT_EQ(sizes.front(), kFirstStretch);
  EXPECT_EQ(sizes.back(), 1024U);
  EXPECT_TRUE(std::ranges::any_of(sizes, [](auto size) { return size > kFirstStretch && size < 1024; }));
  EXPECT_GT(names.size(), 4U);
}

// A listing goes on where it was when the directory moves out in the middle of it.
TEST_F(InlineDirectories, CookiesSurviveTheMove) {
  auto& fs = volume_.mount();
  const auto directory = volume_.make_directory(kRootInode, "d");
  for (int i = 0; i < 5; ++i) volume_.make_file(directory, fmt::format("stays {}", i));
  ASSERT_TRUE(is_inside(directory));
  std::vector<std::string> seen;
  std::uint64_t cookie = 0;
  const auto list = [&](std::size_t most) {
    std::size_t taken = 0;
    ASSERT_TRUE(fs.read_directory(directory, cookie, [&](const DirectoryEntry& entry) {
      if (taken++ == most) return false;
      if (entry.name.starts_with("stays")) seen.emplace_back(entry.name);
      cookie = entry.next;
      return true;
    }));
  };
  list(4);
  for (int i = 0; i < 30; ++i) volume_.make_file(directory, fmt::format("comes {}", i));
  EXPECT_FALSE(is_inside(directory));
  list(100);
  std::ranges::sort(seen);
  EXPECT_EQ(seen, (std::vector<std::string>{"stays 0", "stays 1", "stays 2", "stays 3", "stays 4"}));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_F(InlineDirectories, AreMovedRenamedAndRemoved) {
  auto& fs = volume_.mount();
  const auto first = volume_.make_directory(kRootInode, "first");
  const auto second = volume_.make_directory(kRootInode, "second");
  const auto child = volume_.make_directory(first, "child");
  ASSERT_TRUE(fs.rename(first, "child", second, "a longer name", {}));
  EXPECT_EQ(fs.lookup(child, "..")->inode, second);
  EXPECT_EQ(attributes(first).links, 2U);
  EXPECT_EQ(attributes(second).links, 3U);
  EXPECT_TRUE(is_inside(second));
  // What goes leaves room.
  for (int i = 0; i < 40; ++i) {
    volume_.make_file(first, fmt::format("{:0>20}", i));
    ASSERT_TRUE(fs.unlink(first, fmt::format("{:0>20}", i)));
  }
  EXPECT_TRUE(is_inside(first));
  ASSERT_TRUE(fs.remove_directory(second, "a longer name"));
  ASSERT_TRUE(fs.remove_directory(kRootInode, "first"));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// Where attributes fill the inode a directory has a block from the start.
TEST_F(InlineDirectories, NeedRoomForTheirAttribute) {
  auto& fs = volume_.mount();
  const auto parent = volume_.make_directory(kRootInode, "d");
  // Version 2; the owner, one user, the group, the mask, others: rwx.
  constexpr std::string_view kAcl(
      "\x02\0\0\0"
      "\x01\0\x07\0\xff\xff\xff\xff"
      "\x02\0\x07\0\x01\0\0\0"
      "\x04\0\x07\0\xff\xff\xff\xff"
      "\x10\0\x07\0\xff\xff\xff\xff"
      "\x20\0\x07\0\xff\xff\xff\xff",
      44);
  ASSERT_TRUE(fs.set_xattr(parent, "system.posix_acl_default", std::as_bytes(std::span(kAcl)),
                           XattrMode::kCreateOrReplace, SetgidBit::kKeep));
  const auto child = volume_.make_directory(parent, "child");
  EXPECT_FALSE(is_inside(child));
  EXPECT_EQ(attributes(child).size, 1024U);
  volume_.make_file(child, "name");
  EXPECT_EQ(volume_.list(child), (std::vector<std::string>{".", "..", "name"}));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
