// SPDX-License-Identifier: GPL-2.0-or-later
// InodeBitmaps and GroupDescriptors: bits, figures and checksums stay together, on every kind of group;
// damage is told once, and costs nothing but its group.
#include "server/ext4/inode_bitmaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "server/ext4/bitmap_bits.h"
#include "tests/unit/ext4/bitmap_figures.h"
#include "tests/unit/ext4/open_volume.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

TEST(BitmapBits, AreFoundSetAndCounted) {
  alignas(8) std::array<std::byte, 32> bytes{};
  const std::size_t all = bytes.size() * 8;
  EXPECT_EQ(bits::first_one(bytes, 0, all), all);
  EXPECT_EQ(bits::first_zero(bytes, 0, all), 0U);
  bits::set(bytes, 3, 200);
  EXPECT_EQ(bytes[0], std::byte{0xf8});
  EXPECT_EQ(bits::first_one(bytes, 0, all), 3U);
  EXPECT_EQ(bits::first_one(bytes, 0, 3), 3U);
  EXPECT_EQ(bits::first_zero(bytes, 3, all), 200U);
  EXPECT_EQ(bits::first_zero(bytes, 3, 190), 190U);
  EXPECT_EQ(bits::count_zeros(bytes, 0, all), all - 197);
  EXPECT_EQ(bits::count_zeros(bytes, 2, 201), 2U);
  bits::clear(bytes, 64, 128);
  EXPECT_FALSE(bits::test(bytes, 64));
  EXPECT_FALSE(bits::test(bytes, 127));
  EXPECT_TRUE(bits::test(bytes, 63));
  EXPECT_TRUE(bits::test(bytes, 128));
  EXPECT_EQ(bits::first_zero(bytes, 3, all), 64U);
  EXPECT_EQ(bits::first_one(bytes, 64, all), 128U);
  EXPECT_EQ(bits::count_zeros(bytes, 10, 10), 0U);
  EXPECT_EQ(bits::first_zero(bytes, all, all), all);
}

using What = InodeBitmaps::What;

void expect_consistent(Volume& volume) {
  auto& groups = volume.groups();
  expect_figures(
      groups, volume.inode_bitmaps(), [&](GroupNumber group) { return groups.free_inodes(group); },
      groups.free_inodes());
}

using Format = BitmapFormat;

class EachFormat : public testing::TestWithParam<Format> {
 protected:
  TestVolume volume_{GetParam().options, GetParam().size};
};

TEST_P(EachFormat, EachNumberIsGivenOnce) {
  OpenVolume open(volume_);
  auto& volume = open.volume();
  auto& inodes = open.metadata().inode_allocator;
  const auto free = volume.groups().free_inodes();
  std::set<InodeNumber> taken;
  while (true) {
    const mode_t mode = taken.size() % 7 == 0 ? S_IFDIR : S_IFREG;
    const auto number = open.changing([&] { return inodes.take(kRootInode, mode); });
    if (!number) {
      EXPECT_EQ(number.error(), Errno(ENOSPC));
      break;
    }
    EXPECT_TRUE(taken.insert(*number).second) << *number;
    EXPECT_TRUE(inodes.in_use(*number));
    // Also those of which the descriptors know already.
    if (mode == S_IFDIR) {
      ASSERT_TRUE(open.changing([&] { return inodes.give_back(*number, mode); }));
      ASSERT_TRUE(open.changing([&] { return inodes.take_this(*number, S_IFREG); }));
    }
  }
  EXPECT_EQ(taken.size(), free);
  EXPECT_EQ(volume.groups().free_inodes(), 0U);
  expect_consistent(volume);
  ASSERT_TRUE(volume.write_back());
  for (const auto number : taken) {
    ASSERT_TRUE(open.changing([&] { return inodes.give_back(number, S_IFREG); }));
    EXPECT_FALSE(inodes.in_use(number));
  }
  EXPECT_EQ(volume.groups().free_inodes(), free);
  expect_consistent(volume);
  open.finish();
  EXPECT_EQ(volume_.check(), "");
}

// Answers what it was.
std::uint32_t set_free(GroupDescriptors& groups, GroupNumber group, std::uint32_t free) {
  const auto lock = groups.lock(group);
  const auto before = groups.free_inodes(group);
  groups.set_inodes(group, free, groups.used_directories(group), groups.unused_inodes(group));
  return before;
}

// A file in each group, most of which had none yet.
TEST_P(EachFormat, FilesInAllGroups) {
  {
    OpenVolume open(volume_);
    auto& volume = open.volume();
    std::optional root = open.metadata().inodes.lock(kRootInode);
    auto directory = open.metadata().inodes.read_for_change(*root);
    ASSERT_TRUE(directory);
    const auto per_group = volume.super().s_inodes_per_group;
    const auto real_root = directory->number;
    for (GroupNumber group = 0; group < volume.groups().count(); ++group) {
      const auto handle = volume.journal().start({.blocks = 100});
      // As if its directory lay there, and the groups before it were full: those of its flex group come
      // first.
      directory->number = group * per_group + 1;
      std::vector<std::uint32_t> free;
      for (GroupNumber before = 0; before < group; ++before)
        free.push_back(set_free(volume.groups(), before, 0));
      auto fresh = open.metadata().inodes.create(*directory, {.mode = S_IFREG | 0644U});
      ASSERT_TRUE(fresh);
      for (GroupNumber before = 0; before < group; ++before) set_free(volume.groups(), before, free[before]);
      directory->number = real_root;
      EXPECT_EQ(volume.inode_bitmaps().group_of(fresh->inode.number), group);
      ASSERT_TRUE(open.metadata().directories.insert(*directory, fmt::format("in {}", group),
                                                     fresh->inode.number, S_IFREG));
    }
    expect_consistent(volume);
    root.reset();
    open.finish();
  }
  EXPECT_EQ(volume_.check(), "");
  auto& fs = volume_.mount();
  for (int i = 0; i < 40; ++i) volume_.make_directory(kRootInode, fmt::format("directory {}", i));
  for (int i = 0; i < 40; i += 3)
    ASSERT_TRUE(fs.remove_directory(kRootInode, fmt::format("directory {}", i)));
  EXPECT_EQ(volume_.unmount_and_check(), "");
  OpenVolume again(volume_);
  expect_consistent(again.volume());
  again.finish();
  EXPECT_EQ(volume_.check(), "");
}

TEST_P(EachFormat, ThreadsKeepItConsistent) {
  OpenVolume open(volume_);
  auto& volume = open.volume();
  const auto before = volume.groups().free_inodes();
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::vector<InodeNumber> mine;
      for (unsigned i = 0; i < 300; ++i) {
        EXPECT_TRUE(i % 100 != 50 || volume.write_back());
        const auto number =
            open.changing([&] { return open.metadata().inode_allocator.take(1 + t * 50, S_IFREG); });
        if (number) mine.push_back(*number);
        if (i % 3 == 2 && !mine.empty()) {
          EXPECT_TRUE(open.metadata().inode_allocator.in_use(mine.back()));
          EXPECT_TRUE(
              open.changing([&] { return open.metadata().inode_allocator.give_back(mine.back(), S_IFREG); }));
          mine.pop_back();
        }
      }
      for (const auto number : mine)
        EXPECT_TRUE(
            open.changing([&] { return open.metadata().inode_allocator.give_back(number, S_IFREG); }));
    });
  }
  threads.clear();
  EXPECT_EQ(volume.groups().free_inodes(), before);
  expect_consistent(volume);
  open.finish();
  EXPECT_EQ(volume_.check(), "");
}

INSTANTIATE_TEST_SUITE_P(
    InodeBitmaps, EachFormat,
    testing::Values(Format{"ext4", "-t ext4 -b 4096 -N 2000", "64M"},
                    Format{"manygroups", "-t ext4 -b 1024 -g 1024 -N 5000"},
                    Format{"metabg", "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode -N 3000"},
                    Format{"bigalloc", "-t ext4 -b 1024 -O bigalloc -C 4096 -N 2000"},
                    Format{"crc16", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg -N 2000"},
                    Format{"noflexbg", "-t ext4 -b 1024 -O ^flex_bg -N 2000"},
                    Format{"short", "-t ext4 -b 2048 -O ^64bit -N 1500"},
                    Format{"ext2", "-t ext2 -b 1024 -N 2000"}),
    [](const auto& info) { return info.param.name; });

class Damaged : public testing::Test {
 protected:
  Damaged() { volume_.events.echo = false; }
  // One bit of the bitmap of this group is not what its checksum is of.
  void damage(GroupNumber group) {
    std::uint64_t block = 0;
    {
      OpenVolume open(volume_);
      block = open.volume().groups().inode_bitmap(group);
      open.finish();
    }
    std::fstream file(volume_.image(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(block * 1024 + 20));
    const auto byte = static_cast<char>(file.get() ^ 4);
    file.seekp(static_cast<std::streamoff>(block * 1024 + 20));
    file.put(byte);
  }
  TestVolume volume_{"-t ext4 -b 1024 -N 2000", "32M"};
};

TEST_F(Damaged, IsToldOnceAndCostsItsGroup) {
  volume_.mount();
  const auto file = volume_.make_file(kRootInode, "file");
  EXPECT_EQ(volume_.unmount_and_check(), "");
  damage(0);
  OpenVolume open(volume_);
  auto& inodes = open.metadata().inode_allocator;
  EXPECT_TRUE(volume_.events.corruptions.empty());
  // What lies there can be read.
  EXPECT_TRUE(inodes.in_use(file));
  EXPECT_TRUE(inodes.in_use(file));
  ASSERT_EQ(volume_.events.corruptions.size(), 1U);
  EXPECT_NE(volume_.events.corruptions[0].find("the inode bitmap of group 0 has a wrong checksum, block"),
            std::string::npos)
      << volume_.events.corruptions[0];
  const auto number = open.changing([&] { return inodes.take(kRootInode, S_IFREG); });
  ASSERT_TRUE(number);
  EXPECT_EQ(open.volume().inode_bitmaps().group_of(*number), 1U);
  EXPECT_EQ(open.changing([&] { return inodes.give_back(file, S_IFREG); }), fail(kCorrupted));
  EXPECT_TRUE(open.changing([&] { return inodes.give_back(*number, S_IFREG); }));
  EXPECT_EQ(volume_.events.corruptions.size(), 1U);
}

TEST_F(Damaged, IsNotHeededWhereNothingIsWritten) {
  volume_.mount();
  const auto file = volume_.make_file(kRootInode, "file");
  EXPECT_EQ(volume_.unmount_and_check(), "");
  damage(0);
  auto& fs = volume_.mount({.access = cache::Access::kReadOnly});
  EXPECT_TRUE(fs.lookup(kRootInode, "file"));
  EXPECT_TRUE(fs.attributes(file));
  EXPECT_TRUE(volume_.events.corruptions.empty());
  const auto& notices = volume_.events.notices;
  EXPECT_EQ(std::ranges::count_if(notices, [](const auto& words) { return words.contains("is not heeded"); }),
            1);
}

TEST_F(Damaged, WhereAllGroupsAreThereIsNoNumber) {
  TestVolume volume("-t ext4 -b 1024 -N 500", "8M");
  volume.events.echo = false;
  OpenVolume open(volume);
  auto& groups = open.volume().groups();
  ASSERT_EQ(groups.count(), 1U);
  std::ignore = open.volume().inode_bitmaps().blocks().corrupted(0, "is a test");
  EXPECT_EQ(open.changing([&] { return open.metadata().inode_allocator.take(kRootInode, S_IFREG); }),
            fail(kCorrupted));
}

TEST_F(Damaged, NothingIsTakenOrFreedTwice) {
  OpenVolume open(volume_);
  auto& inodes = open.metadata().inode_allocator;
  const auto number = open.changing([&] { return inodes.take(kRootInode, S_IFREG); });
  ASSERT_TRUE(number);
  EXPECT_EQ(open.changing([&] { return inodes.take_this(*number, S_IFREG); }), fail(kCorrupted));
  const auto free = open.volume().groups().free_inodes();
  ASSERT_TRUE(open.changing([&] { return inodes.give_back(*number, S_IFREG); }));
  EXPECT_EQ(open.changing([&] { return inodes.give_back(*number, S_IFREG); }), fail(kCorrupted));
  // In a group that has none yet.
  const InodeNumber last = open.volume().super().s_inodes_count;
  EXPECT_FALSE(inodes.in_use(last));
  EXPECT_EQ(open.changing([&] { return inodes.give_back(last, S_IFREG); }), fail(kCorrupted));
  EXPECT_FALSE(inodes.in_use(last + 1));
  EXPECT_FALSE(inodes.in_use(0));
  EXPECT_EQ(open.volume().groups().free_inodes(), free + 1);
  EXPECT_EQ(volume_.events.corruptions.size(), 3U);
  expect_consistent(open.volume());
}

TEST(InodeBitmaps, FirstInodeBeginsTheBitmap) {
  TestVolume volume("-t ext4 -b 1024 -g 1024 -N 5000", "32M");
  OpenVolume open(volume);
  auto& groups = open.volume().groups();
  const GroupNumber last = groups.count() - 1;
  ASSERT_TRUE(groups.has_no_inodes(last));
  EXPECT_EQ(groups.unused_inodes(last), open.volume().super().s_inodes_per_group);
  const auto number =
      open.changing([&] { return open.volume().inode_bitmaps().take_lowest(last, What::kDirectory); });
  ASSERT_TRUE(number);
  EXPECT_EQ(*number, last * open.volume().super().s_inodes_per_group + 1);
  EXPECT_FALSE(groups.has_no_inodes(last));
  EXPECT_EQ(groups.used_directories(last), 1U);
  EXPECT_EQ(groups.unused_inodes(last), open.volume().super().s_inodes_per_group - 1);
  ASSERT_TRUE(
      open.changing([&] { return open.volume().inode_bitmaps().give_back(*number, What::kDirectory); }));
  EXPECT_EQ(groups.used_directories(last), 0U);
  open.finish();
  EXPECT_EQ(volume.check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
