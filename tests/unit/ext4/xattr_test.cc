// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes and ACLs through the engine's face, on volumes of all kinds; the kernel's ext4 is
// beside it in tests/mount/xattr_test.cc.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "server/ext4/xattr_area.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(XattrArea, IsLaidOutAndReadBack) {
  XattrEntries entries{{1, "a", 0, 3, 7, {}}, {6, "capability", 12, 4000, 8, {}}, {2, "", 0, 0, 9, {}}};
  entries[0].value.assign(3, std::byte{'x'});
  EXPECT_EQ(length_of_xattrs(entries), 20U + 4 + 28 + 16 + 4);
  std::vector<std::byte> area(100, std::byte{0xff});
  lay_out_xattrs(entries, area, 0);
  EXPECT_EQ(parse_xattrs(area, 0), entries);
  std::vector<std::byte> block(132);
  lay_out_xattrs(entries, block, 32);
  EXPECT_EQ(parse_xattrs(block, 32), entries);
}

TEST(XattrArea, WhatLeavesItIsDamage) {
  XattrEntries entries{{1, "abc", 0, 8, 0, std::vector<std::byte>(8)},
                       {1, "abd", 0, 8, 0, std::vector<std::byte>(8)}};
  std::vector<std::byte> area(64);
  lay_out_xattrs(entries, area, 0);
  ASSERT_TRUE(parse_xattrs(area, 0));
  // Every single byte, with every value: never past the end, and what is accepted can be laid out again.
  for (std::size_t at = 0; at < area.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      auto damaged = area;
      damaged[at] = static_cast<std::byte>(value);
      const auto parsed = parse_xattrs(damaged, 0);
      if (!parsed) continue;
      ASSERT_LE(length_of_xattrs(*parsed), area.size()) << at << " " << value;
      lay_out_xattrs(*parsed, damaged, 0);
      ASSERT_EQ(parse_xattrs(damaged, 0), parsed);
    }
  }
  area[1] = std::byte{0};
  area.resize(16);
  EXPECT_FALSE(parse_xattrs(area, 0)) << "no end";
}

TEST(XattrArea, NamesHavePrefixes) {
  EXPECT_EQ(split_xattr_name("user.a.b")->suffix, "a.b");
  EXPECT_EQ(split_xattr_name("security.capability")->index, XattrIndex::kSecurity);
  EXPECT_EQ(split_xattr_name("system.posix_acl_access")->index, XattrIndex::kAccessAcl);
  for (const char* const unknown :
       {"system.data", "system.posix_acl_accessx", "user", "", "foo.bar", "system."})
    EXPECT_FALSE(split_xattr_name(unknown)) << unknown;
}

class Xattr : public testing::TestWithParam<const char*> {
 protected:
  Errno set(InodeNumber inode, std::string_view name, std::string_view value,
            XattrMode mode = XattrMode::kCreateOrReplace) {
    const auto done = volume_.fs().set_xattr(inode, name, bytes_of(value), mode, SetgidBit::kKeep);
    return done ? Errno(0) : done.error();
  }
  Errno remove(InodeNumber inode, std::string_view name) {
    const auto done = volume_.fs().remove_xattr(inode, name);
    return done ? Errno(0) : done.error();
  }
  std::string get(InodeNumber inode, std::string_view name) {
    const auto value = volume_.fs().xattr(inode, name);
    return value ? std::string(reinterpret_cast<const char*>(value->data()), value->size())
                 : value.error().message();
  }
  // Separated by blanks.
  std::string names(InodeNumber inode) {
    auto list = volume_.fs().xattr_names(inode).value();
    std::ranges::replace(list, '\0', ' ');
    return list;
  }
  static bool is(std::string_view words) {
    return std::string_view(GetParam()).find(words) != std::string::npos;
  }

  TestVolume volume_{GetParam(), "32M"};
};

TEST_P(Xattr, AreSetReadListedAndRemoved) {
  volume_.mount();
  const auto file = volume_.make_file(kRootInode, "f");
  const auto directory = volume_.make_directory(kRootInode, "d");
  for (const InodeNumber inode : {file, directory}) {
    EXPECT_EQ(names(inode), "");
    EXPECT_EQ(set(inode, "user.a", "1", XattrMode::kReplace), Errno(ENODATA));
    EXPECT_EQ(set(inode, "user.a", "1", XattrMode::kCreate), Errno(0));
    EXPECT_EQ(set(inode, "user.a", "2", XattrMode::kCreate), Errno(EEXIST));
    EXPECT_EQ(set(inode, "user.a", "2", XattrMode::kReplace), Errno(0));
    EXPECT_EQ(set(inode, "trusted.b", ""), Errno(0));
    EXPECT_EQ(set(inode, "security.c", std::string(300, 'c')), Errno(0));
    EXPECT_EQ(get(inode, "user.a"), "2");
    EXPECT_EQ(get(inode, "trusted.b"), "");
    EXPECT_EQ(get(inode, "security.c"), std::string(300, 'c'));
    EXPECT_EQ(names(inode), "user.a trusted.b security.c ");
    EXPECT_EQ(volume_.fs().xattr(inode, "user.b").error(), Errno(ENODATA));
    EXPECT_EQ(remove(inode, "trusted.x"), Errno(ENODATA));
    EXPECT_EQ(remove(inode, "trusted.b"), Errno(0));
    EXPECT_EQ(names(inode), "user.a security.c ");
  }
  EXPECT_EQ(set(file, "user.", "x"), Errno(EINVAL));
  EXPECT_EQ(set(file, "foo.x", "x"), Errno(EOPNOTSUPP));
  EXPECT_EQ(set(file, "system.data", "x"), Errno(EOPNOTSUPP));
  EXPECT_EQ(set(file, "user.x", std::string(65537, 'x')), Errno(E2BIG));
  EXPECT_EQ(set(file, "user." + std::string(256, 'n'), "x"), Errno(ERANGE));
  volume_.unmount();
  ASSERT_EQ(volume_.check(), "");
  volume_.mount();
  EXPECT_EQ(get(file, "security.c"), std::string(300, 'c'));
  const auto before = volume_.fs().statistics()->free_blocks;
  EXPECT_EQ(remove(file, "user.a"), Errno(0));
  EXPECT_EQ(remove(file, "security.c"), Errno(0));
  EXPECT_EQ(volume_.fs().attributes(file)->sectors, 0U);
  EXPECT_GE(volume_.fs().statistics()->free_blocks, before);
  ASSERT_TRUE(volume_.fs().unlink(kRootInode, "f"));
  ASSERT_TRUE(volume_.fs().remove_directory(kRootInode, "d"));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(Xattr, WhatDoesNotFitChangesNothing) {
  volume_.mount();
  const auto file = volume_.make_file(kRootInode, "f");
  int count = 0;
  Errno last(0);
  for (; count < 5000 && last == Errno(0); ++count)
    last = set(file, fmt::format("user.number_{}", count), std::string(90, 'v'));
  EXPECT_EQ(last, Errno(ENOSPC));
  const auto listed = names(file);
  const auto changed = volume_.fs().attributes(file)->changed;
  EXPECT_EQ(set(file, fmt::format("user.another_{}", count), std::string(90, 'v')), Errno(ENOSPC));
  EXPECT_EQ(names(file), listed);
  EXPECT_EQ(volume_.fs().attributes(file)->changed.nanoseconds, changed.nanoseconds);
  EXPECT_EQ(get(file, "user.number_0"), std::string(90, 'v'));
  if (!is("ea_inode")) {
    EXPECT_EQ(set(file, "user.number_0", std::string(60'000, 'v')), Errno(ENOSPC));
  }
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(Xattr, EqualBlocksAreShared) {
  volume_.mount();
  std::vector<InodeNumber> files;
  for (int i = 0; i < 1030; ++i) files.push_back(volume_.make_file(kRootInode, fmt::format("f{}", i)));
  const auto before = volume_.fs().statistics()->free_blocks;
  for (const auto file : files) ASSERT_EQ(set(file, "user.same", std::string(700, 's')), Errno(0));
  const auto after = volume_.fs().statistics()->free_blocks;
  if (!is("-I 1024")) {
    EXPECT_EQ(before - after, 2U * (is("bigalloc") ? 16 : 1)) << "1024 share one, 6 another";
  }
  EXPECT_EQ(set(files[3], "user.other", "3"), Errno(0));
  EXPECT_EQ(set(files[4], "user.same", std::string(700, '4')), Errno(0));
  EXPECT_EQ(remove(files[5], "user.same"), Errno(0));
  EXPECT_EQ(get(files[3], "user.same"), std::string(700, 's'));
  EXPECT_EQ(get(files[4], "user.same"), std::string(700, '4'));
  EXPECT_EQ(get(files[6], "user.same"), std::string(700, 's'));
  volume_.unmount();
  ASSERT_EQ(volume_.check(), "");
  volume_.mount();
  for (int i = 0; i < 1030; ++i) ASSERT_TRUE(volume_.fs().unlink(kRootInode, fmt::format("f{}", i)));
  // The directory has grown meanwhile.
  EXPECT_EQ(volume_.fs().statistics()->free_blocks, before);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

using XattrInodes = Xattr;

TEST_P(XattrInodes, HoldLargeValues) {
  volume_.mount();
  const auto file = volume_.make_file(kRootInode, "f");
  const auto second = volume_.make_file(kRootInode, "g");
  const auto before = volume_.fs().statistics().value();
  std::string large(65536, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 7 + i / 1000);
  EXPECT_EQ(set(file, "user.large", large), Errno(0));
  EXPECT_EQ(set(file, "user.too", large), Errno(0));
  EXPECT_EQ(set(second, "user.too", large), Errno(0));
  EXPECT_EQ(volume_.fs().statistics()->free_inodes, before.free_inodes - 1) << "one for all three";
  EXPECT_EQ(get(second, "user.too"), large);
  EXPECT_EQ(set(second, "user.too", large.substr(1)), Errno(0));
  EXPECT_EQ(set(file, "user.too", large), Errno(0)) << "the same";
  EXPECT_EQ(get(second, "user.too"), large.substr(1));
  EXPECT_EQ(get(file, "user.too"), large);
  // One after another out of the way of the rest.
  for (int i = 0; i < 9; ++i)
    EXPECT_EQ(set(file, fmt::format("user.n{}", i), std::string(400 + i, 'm')), Errno(0));
  volume_.unmount();
  ASSERT_EQ(volume_.check(), "");
  volume_.mount();
  EXPECT_EQ(get(file, "user.large"), large);
  EXPECT_EQ(get(file, "user.n7"), std::string(407, 'm'));
  EXPECT_EQ(remove(file, "user.large"), Errno(0));
  EXPECT_EQ(set(file, "user.too", "small"), Errno(0));
  ASSERT_TRUE(volume_.fs().unlink(kRootInode, "f"));
  ASSERT_TRUE(volume_.fs().unlink(kRootInode, "g"));
  volume_.fs().forget(file, 1);
  volume_.fs().forget(second, 1);
  EXPECT_EQ(volume_.fs().statistics()->free_inodes, before.free_inodes + 2);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

constexpr std::string_view kAcl(
    "\2\0\0\0\1\0\6\0\xff\xff\xff\xff\2\0\7\0\xe8\3\0\0\4\0\4\0\xff\xff\xff\xff"
    "\x10\0\7\0\xff\xff\xff\xff\x20\0\4\0\xff\xff\xff\xff",
    44);
constexpr std::string_view kMinimalAcl(
    "\2\0\0\0\1\0\6\0\xff\xff\xff\xff\4\0\4\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff", 28);

TEST_P(Xattr, AnAclAndTheModeFollowEachOther) {
  auto& fs = volume_.mount();
  const auto file = volume_.make_file(kRootInode, "f", S_IFREG | 02750);
  EXPECT_EQ(set(file, "system.posix_acl_access", kAcl), Errno(0));
  EXPECT_EQ(fs.attributes(file)->mode & 07777U, 02674U);
  EXPECT_EQ(get(file, "system.posix_acl_access"), kAcl);
  EXPECT_EQ(names(file), "system.posix_acl_access ");
  ASSERT_TRUE(fs.set_xattr(file, "system.posix_acl_access", bytes_of(kAcl), XattrMode::kCreateOrReplace,
                           SetgidBit::kClear));
  EXPECT_EQ(fs.attributes(file)->mode & 07777U, 0674U);
  EXPECT_EQ(fs.set_attributes(file, {.permissions = 0420})->mode & 07777U, 0420U);
  EXPECT_EQ(get(file, "system.posix_acl_access")[4 + 2], '\4');
  EXPECT_EQ(get(file, "system.posix_acl_access")[4 + 3 * 8 + 2], '\2') << "the mask";
  EXPECT_EQ(get(file, "system.posix_acl_access")[4 + 2 * 8 + 2], '\4') << "the group";
  EXPECT_EQ(set(file, "system.posix_acl_access", kMinimalAcl), Errno(0));
  EXPECT_EQ(names(file), "") << "the mode says it all";
  EXPECT_EQ(fs.attributes(file)->mode & 07777U, 0640U);
  EXPECT_EQ(remove(file, "system.posix_acl_access"), Errno(0)) << "though there is none";

  EXPECT_EQ(set(file, "system.posix_acl_default", kAcl), Errno(EACCES));
  EXPECT_EQ(remove(file, "system.posix_acl_default"), Errno(0));
  EXPECT_EQ(set(file, "system.posix_acl_access", kAcl.substr(0, 43)), Errno(EINVAL));
  EXPECT_EQ(set(file, "system.posix_acl_access", kAcl.substr(0, 36)), Errno(EINVAL)) << "nobody else's";
  const auto link = fs.make_symlink(kRootInode, "l", "f", {})->inode;
  EXPECT_EQ(set(link, "system.posix_acl_access", kAcl), Errno(EOPNOTSUPP));
  EXPECT_EQ(set(link, "trusted.x", "y"), Errno(0));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(Xattr, DefaultAclsAreInherited) {
  auto& fs = volume_.mount();
  const auto directory = volume_.make_directory(kRootInode, "d");
  EXPECT_EQ(fs.make(directory, "masked", {.mode = S_IFREG | 0666, .umask = 027})->mode & 07777U, 0640U);
  EXPECT_EQ(set(directory, "system.posix_acl_default", kAcl), Errno(0));
  EXPECT_EQ(fs.attributes(directory)->mode & 07777U, 0755U);
  const auto file = fs.make(directory, "f", {.mode = S_IFREG | 0666, .umask = 077}).value();
  EXPECT_EQ(file.mode & 07777U, 0664U);
  EXPECT_EQ(names(file.inode), "system.posix_acl_access ");
  EXPECT_EQ(get(file.inode, "system.posix_acl_access")[4 + 3 * 8 + 2], '\6');
  const auto inner = fs.make(directory, "i", {.mode = S_IFDIR | 0777, .umask = 077}).value();
  EXPECT_EQ(inner.mode & 07777U, 0674U);
  // Blocks are sorted, inodes are not.
  EXPECT_EQ(names(inner.inode), is("-I 128") ? "system.posix_acl_access system.posix_acl_default "
                                             : "system.posix_acl_default system.posix_acl_access ");
  EXPECT_EQ(get(inner.inode, "system.posix_acl_default"), kAcl);
  EXPECT_EQ(get(inner.inode, "system.posix_acl_access"), kAcl);
  const auto link = fs.make_symlink(directory, "l", "f", {.umask = 077}).value();
  EXPECT_EQ(link.mode & 07777U, 0777U);
  EXPECT_EQ(names(link.inode), "");
  EXPECT_EQ(names(fs.make(directory, "p", {.mode = S_IFIFO | 0600})->inode), "system.posix_acl_access ");
  EXPECT_EQ(set(directory, "system.posix_acl_default", kMinimalAcl), Errno(0));
  const auto plain = fs.make(directory, "plain", {.mode = S_IFREG | 0666, .umask = 0777}).value();
  EXPECT_EQ(plain.mode & 07777U, 0640U);
  EXPECT_EQ(names(plain.inode), "");
  EXPECT_EQ(remove(directory, "system.posix_acl_default"), Errno(0));
  EXPECT_EQ(fs.make(directory, "again", {.mode = S_IFREG | 0666, .umask = 022})->mode & 07777U, 0644U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_P(Xattr, WithoutAclsThereAreNone) {
  volume_.mount();
  const auto directory = volume_.make_directory(kRootInode, "d");
  EXPECT_EQ(set(directory, "system.posix_acl_default", kAcl), Errno(0));
  EXPECT_EQ(set(directory, "user.a", "b"), Errno(0));
  volume_.unmount();
  auto& fs = volume_.mount({.acls = MountOptions::Acls::kIgnore});
  EXPECT_FALSE(fs.has_acls());
  EXPECT_EQ(names(directory), "user.a ");
  EXPECT_EQ(fs.xattr(directory, "system.posix_acl_default").error(), Errno(EOPNOTSUPP));
  EXPECT_EQ(set(directory, "system.posix_acl_access", kAcl), Errno(EOPNOTSUPP));
  EXPECT_EQ(remove(directory, "system.posix_acl_default"), Errno(EOPNOTSUPP));
  EXPECT_EQ(fs.make(directory, "f", {.mode = S_IFREG | 0666, .umask = 022})->mode & 07777U, 0644U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// A creation that fails half-way leaves nothing behind.
TEST_P(Xattr, AFullVolumeGetsNoAcls) {
  auto& fs = volume_.mount();
  const auto directory = volume_.make_directory(kRootInode, "d");
  // More than fits into an inode.
  std::string acl(kAcl.substr(0, 12));
  for (int i = 0; i < (is("-I 1024") ? 200 : 100); ++i)
    acl += std::string("\2\0\7\0", 4) + static_cast<char>(i) + std::string("\1\0\0", 3);
  acl += kAcl.substr(20);
  ASSERT_EQ(set(directory, "system.posix_acl_default", acl), Errno(0));
  const auto filler = volume_.make_file(kRootInode, "filler");
  const std::string piece(65536, 'f');
  for (std::uint64_t at = 0; fs.write(filler, at, bytes_of(piece), AttributeChanges::Privileges::kKeep);
       at += 65536) {
  }
  for (std::uint64_t at = fs.attributes(filler)->size;
       fs.write(filler, at, bytes_of(piece.substr(0, 1024)), AttributeChanges::Privileges::kKeep);
       at += 1024) {
  }
  // Where indirect blocks are kept in reserve, the last few are left.
  for (int i = 0; fs.make(kRootInode, fmt::format("x{}", i), {.mode = S_IFDIR | 0755}); ++i) {
  }
  const auto inodes = fs.statistics()->free_inodes;
  const auto made = fs.make(directory, "f", {.mode = S_IFREG | 0644});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error(), Errno(ENOSPC));
  EXPECT_EQ(fs.statistics()->free_inodes, inodes);
  EXPECT_EQ(fs.lookup(directory, "f").error(), Errno(ENOENT));
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, XattrInodes,
                         testing::Values("-t ext4 -b 1024 -O ea_inode",
                                         "-t ext4 -b 4096 -O ea_inode,^metadata_csum",
                                         "-t ext4 -b 4096 -O ea_inode,bigalloc -C 65536 -N 8192",
                                         "-t ext3 -b 1024 -O ea_inode"));

INSTANTIATE_TEST_SUITE_P(
    Forms, Xattr,
    testing::Values("-t ext4 -b 4096", "-t ext4 -b 1024", "-t ext4 -b 4096 -O ^metadata_csum,uninit_bg",
                    "-t ext2 -b 1024 -I 128 -O ^ext_attr", "-t ext4 -b 2048 -I 128",
                    "-t ext4 -b 4096 -O inline_data -I 1024", "-t ext4 -b 1024 -O inline_data -I 256",
                    "-t ext4 -b 4096 -O bigalloc -C 65536 -N 8192", "-t ext4 -b 1024 -O ea_inode",
                    "-t ext4 -b 4096 -O ea_inode,^metadata_csum",
                    "-t ext4 -b 4096 -O ea_inode,bigalloc -C 65536 -N 8192", "-t ext3 -b 1024 -O ea_inode"));

}  // namespace
}  // namespace fuse4fs::ext4
