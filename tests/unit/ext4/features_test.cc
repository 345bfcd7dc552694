// SPDX-License-Identifier: GPL-2.0-or-later
// One round of everything on each form of the format that mke2fs can make, judged by e2fsck.
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include <sys/sysmacros.h>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

struct Form {
  const char* name;
  const char* options;
  const char* size = "64M";
};

void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class EachForm : public testing::TestWithParam<Form> {};

std::string pattern(std::size_t length, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(length, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

TEST_P(EachForm, RoundOfEverything) {
  TestVolume volume(GetParam().options, GetParam().size);
  ASSERT_EQ(volume.check(), "");
  volume.mount();
  auto& fs = volume.fs();

  const auto directory = volume.make_directory(kRootInode, "directory");
  const auto other = volume.make_directory(kRootInode, "other");
  for (int i = 0; i < 300; ++i) {
    const auto file = volume.make_file(directory, fmt::format("a file with a longer name, number {}", i));
    volume.write(file, 0, pattern(static_cast<std::size_t>(i) * 37 + 1, static_cast<unsigned>(i)));
  }
  for (int i = 0; i < 300; i += 3)
    ASSERT_TRUE(fs.unlink(directory, fmt::format("a file with a longer name, number {}", i)));
  for (int i = 1; i < 300; i += 3) {
    const auto name = fmt::format("a file with a longer name, number {}", i);
    ASSERT_TRUE(fs.rename(directory, name, other, name, {.mode = RenameMode::kReplace}));
  }
  EXPECT_EQ(volume.list(directory).size(), 102U);
  EXPECT_EQ(volume.list(other).size(), 102U);

  // Large, with holes, rewritten in pieces that fit no block.
  const auto big = volume.make_file(other, "big");
  std::string expected(3'000'000, '\0');
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) {
    const std::size_t offset = random() % 2'700'000;
    const auto bytes = pattern(random() % 200'000, random());
    volume.write(big, offset, bytes);
    expected.replace(offset, bytes.size(), bytes);
  }
  const auto size = fs.attributes(big)->size;
  expected.resize(size);
  ASSERT_TRUE(volume.read(big, 0, 4'000'000) == expected);
  for (const std::uint64_t length :
       {size - 12345, std::uint64_t{70'001}, size, std::uint64_t{11}, std::uint64_t{0}}) {
    ASSERT_TRUE(fs.set_attributes(big, {.size = length}));
    expected.resize(length);
    ASSERT_TRUE(volume.read(big, 0, 4'000'000) == expected) << length;
  }
  EXPECT_EQ(fs.attributes(big)->sectors, 0U);
  volume.write(big, 5'000'000, "end");

  ASSERT_TRUE(fs.make_symlink(kRootInode, "short", "target", {}));
  const std::string far(900, 'x');
  const auto link = fs.make_symlink(kRootInode, "long", far, {});
  ASSERT_TRUE(link);
  EXPECT_EQ(fs.symlink_target(link->inode).value(), far);
  ASSERT_TRUE(fs.make(kRootInode, "device", {.mode = S_IFBLK | 0600, .device = makedev(259, 70000)}));
  ASSERT_TRUE(fs.make(kRootInode, "pipe", {.mode = S_IFIFO | 0600}));
  EXPECT_EQ(fs.lookup(kRootInode, "device")->device, makedev(259, 70000));
  ASSERT_TRUE(fs.link(big, kRootInode, "another name"));
  ASSERT_TRUE(fs.unlink(kRootInode, "long"));
  const auto empty = volume.make_directory(directory, "empty");
  ASSERT_TRUE(fs.rename(directory, "empty", other, "empty", {.mode = RenameMode::kReplace}));
  EXPECT_EQ(fs.rename(kRootInode, "other", empty, "loop", {.mode = RenameMode::kReplace}).error(),
            Errno(EINVAL));
  ASSERT_TRUE(fs.remove_directory(other, "empty"));
  EXPECT_EQ(fs.remove_directory(kRootInode, "other").error(), Errno(ENOTEMPTY));
  ASSERT_TRUE(fs.rename(kRootInode, "other", directory, "other", {.mode = RenameMode::kReplace}));
  ASSERT_TRUE(fs.sync());

  EXPECT_EQ(volume.unmount_and_check(), "");
  EXPECT_TRUE(volume.events.corruptions.empty()) << volume.events.corruptions.front();

  volume.mount();
  EXPECT_EQ(volume.read(volume.fs().lookup(kRootInode, "another name")->inode, 4'999'999, 10),
            std::string("\0end", 4));
  const auto moved = volume.fs().lookup(directory, "other");
  ASSERT_TRUE(moved);
  EXPECT_EQ(volume.read(volume.fs().lookup(moved->inode, "a file with a longer name, number 100")->inode, 0,
                        10'000),
            pattern(3701, 100));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Forms, EachForm,
    testing::Values(Form{"ext4", "-t ext4 -b 4096"}, Form{"ext4_1k", "-t ext4 -b 1024"},
                    Form{"ext4_2k", "-t ext4 -b 2048"}, Form{"ext4_64k", "-t ext4 -b 65536", "256M"},
                    Form{"ext4_16k", "-t ext4 -b 16384", "128M"}, Form{"ext3", "-t ext3 -b 4096"},
                    Form{"ext3_1k", "-t ext3 -b 1024"}, Form{"ext2", "-t ext2 -b 4096"},
                    Form{"ext2_1k", "-t ext2 -b 1024"}, Form{"rev0", "-t ext2 -r 0 -b 1024"},
                    Form{"small_inodes", "-t ext4 -b 4096 -I 128"},
                    Form{"large_inodes", "-t ext4 -b 4096 -I 1024"},
                    Form{"no_csum", "-t ext4 -b 4096 -O ^metadata_csum"},
                    Form{"gdt_csum", "-t ext4 -b 4096 -O ^metadata_csum,uninit_bg"},
                    Form{"csum_seed", "-t ext4 -b 4096 -O metadata_csum_seed"},
                    Form{"not_64bit", "-t ext4 -b 4096 -O ^64bit"},
                    Form{"meta_bg", "-t ext4 -b 1024 -O meta_bg,^resize_inode", "100M"},
                    Form{"no_flex", "-t ext4 -b 1024 -O ^flex_bg"},
                    Form{"bigalloc", "-t ext4 -b 4096 -O bigalloc -C 65536", "256M"},
                    Form{"bigalloc_1k", "-t ext4 -b 1024 -O bigalloc -C 16384", "128M"},
                    Form{"inline_data", "-t ext4 -b 4096 -O inline_data"},
                    Form{"large_dir", "-t ext4 -b 4096 -O large_dir"},
                    Form{"ea_inode", "-t ext4 -b 4096 -O ea_inode"},
                    Form{"project", "-t ext4 -b 4096 -O project"},
                    Form{"sparse_super2", "-t ext4 -b 4096 -O sparse_super2,^resize_inode"},
                    Form{"no_filetype", "-t ext4 -b 4096 -O ^filetype"},
                    Form{"no_journal", "-t ext4 -b 4096 -O ^has_journal"},
                    Form{"orphan_file", "-t ext4 -b 4096 -O orphan_file"},
                    Form{"no_dir_index", "-t ext4 -b 4096 -O ^dir_index"},
                    Form{"no_huge_file", "-t ext4 -b 4096 -O ^huge_file,^dir_nlink,^extra_isize"},
                    Form{"no_sparse", "-t ext2 -O ^sparse_super,^resize_inode -b 1024", "40M"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace fuse4fs::ext4
