// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes with random damage: any error is right, a crash, a hang or a sanitizer's finding is
// not. FUSE4FS_HOSTILE_SEEDS=FIRST-LAST runs others than the usual ones.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

constexpr std::string_view kAcl(
    "\2\0\0\0\1\0\6\0\xff\xff\xff\xff\2\0\7\0\xe8\3\0\0\4\0\4\0\xff\xff\xff\xff"
    "\x10\0\7\0\xff\xff\xff\xff\x20\0\4\0\xff\xff\xff\xff",
    44);

Errno set(FileSystem& fs, InodeNumber inode, std::string_view name, std::string_view value) {
  const auto done = fs.set_xattr(inode, name, bytes_of(value), XattrMode::kCreateOrReplace, SetgidBit::kKeep);
  return done ? Errno(0) : done.error();
}

void populate(TestVolume& volume) {
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "directory");
  ASSERT_EQ(set(fs, directory, "system.posix_acl_default", kAcl), Errno(0));
  for (int i = 0; i < 20; ++i) {
    const auto file = volume.make_file(directory, fmt::format("file{}", i));
    for (int j = 0; j < i % 7; ++j)
      (void)set(fs, file, fmt::format("user.name_{}", j), std::string(10 * (i % 5) + j * 20, 'v'));
    if (i % 3 == 0) (void)set(fs, file, "trusted.large", std::string(800 * (i % 4), 'l'));
    if (i % 4 == 0) (void)set(fs, file, "user.shared", std::string(300, 's'));
    if (i % 5 == 0) (void)set(fs, file, "user.very_large", std::string(9000, 'z'));
  }
  ASSERT_EQ(volume.unmount_and_check(), "");
}

void exercise(FileSystem& fs) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const auto directory = fs.lookup(kRootInode, "directory");
  if (!directory) return;
  (void)fs.xattr(directory->inode, "system.posix_acl_default");
  for (int i = 0; i < 20; ++i) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    const auto name = fmt::format("file{}", i);
    const auto found = fs.lookup(directory->inode, name);
    if (!found) continue;
    const auto names = fs.xattr_names(found->inode).value_or("");
    for (std::string_view rest = names; !rest.empty(); rest.remove_prefix(rest.find('\0') + 1))
      (void)fs.xattr(found->inode, rest.substr(0, rest.find('\0')));
    (void)set(fs, found->inode, "user.new", std::string(static_cast<std::size_t>(i) * 17, 'n'));
    (void)set(fs, found->inode, "user.shared", std::string(300, i % 2 == 0 ? 's' : 't'));
    (void)set(fs, found->inode, "user.very_large", std::string(9000 + i % 2, 'z'));
    (void)set(fs, found->inode, "system.posix_acl_access", kAcl);
    (void)fs.set_attributes(found->inode, {.permissions = 0750});
    (void)fs.remove_xattr(found->inode, "user.name_1");
    (void)fs.make(directory->inode, name + "n", {.mode = (i % 2 == 0 ? S_IFDIR : S_IFREG) | 0755U});
    (void)fs.write(found->inode, 0, bytes_of("text"), AttributeChanges::Privileges::kClear);
    if (i % 2 == 0) (void)fs.unlink(directory->inode, name);
    fs.forget(found->inode, 1);
  }
  (void)fs.sync();
}

class HostileXattr : public testing::TestWithParam<const char*> {};

TEST_P(HostileXattr, DamageDoesNoHarm) {
  unsigned first = 0;
  unsigned last = 59;
  if (const char* const seeds = std::getenv("FUSE4FS_HOSTILE_SEEDS")) {
    ASSERT_EQ(std::sscanf(seeds, "%u-%u", &first, &last), 2);
  }
  TestVolume volume(fmt::format("{} -O ^has_journal,^metadata_csum -N 128", GetParam()), "2M");
  ASSERT_NO_FATAL_FAILURE(populate(volume));
  volume.events.echo = false;
  const std::string good = volume.image_bytes();
  // Near the marks of attributes in inodes, and in their blocks.
  const std::string mark("\0\0\2\xea", 4);
  std::vector<std::size_t> marks;
  for (auto at = good.find(mark); at != std::string::npos; at = good.find(mark, at + 1)) marks.push_back(at);
  ASSERT_FALSE(marks.empty());
  unsigned found = 0;
  for (unsigned seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    auto bytes = good;
    for (unsigned flips = 1 + random() % 40; flips > 0; --flips) {
      // In front of a mark in an inode are the inode's fields.
      const std::size_t place = marks[random() % marks.size()] + random() % 200 - 40;
      bytes[place] = random() % 4 == 0 ? '\xff' : static_cast<char>(random());
    }
    std::ofstream(volume.image(), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    volume.events.corruptions.clear();
    auto fs = volume.try_mount({.errors = ErrorPolicy::kContinue});
    if (!fs) continue;
    ASSERT_NO_FATAL_FAILURE(exercise(**fs));
    (void)(*fs)->unmount();
    found += volume.events.corruptions.empty() ? 0 : 1;
  }
  EXPECT_GT(found, (last - first + 1) / 3) << "or the damage misses them";
}

INSTANTIATE_TEST_SUITE_P(Forms, HostileXattr,
                         testing::Values("-t ext4 -b 1024", "-t ext4 -b 1024 -I 128",
                                         "-t ext4 -b 1024 -O ea_inode",
                                         "-t ext4 -b 1024 -O ea_inode,inline_data",
                                         "-t ext2 -b 4096 -I 256"));

}  // namespace
}  // namespace fuse4fs::ext4
