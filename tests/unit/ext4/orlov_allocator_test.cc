// SPDX-License-Identifier: GPL-2.0-or-later
// OrlovAllocator: where directories and files go, by the figures of groups and flex groups.
#include "server/ext4/orlov_allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tests/unit/ext4/open_volume.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

// Groups whose figures the tests set; nothing is written.
class Figures {
 public:
  explicit Figures(const std::string& options) : image_("-t ext4 -b 1024 -g 1024 -N 4096 " + options) {}

  OrlovAllocator make() { return OrlovAllocator(volume()); }
  Volume& volume() { return open_.volume(); }
  [[nodiscard]] GroupNumber count() { return volume().groups().count(); }
  [[nodiscard]] std::uint32_t inodes_per_group() { return volume().super().s_inodes_per_group; }
  // Some inode of the group.
  [[nodiscard]] InodeNumber inode_in(GroupNumber group) { return group * inodes_per_group() + 5; }
  void set(GroupNumber group, std::uint32_t inodes, std::uint32_t directories, std::uint32_t clusters) {
    const auto lock = volume().groups().lock(group);
    volume().groups().set_inodes(group, inodes, directories, 0);
    volume().groups().set_free_clusters(group, clusters);
  }
  // Once the groups are set: all sums.
  void sum() {
    std::uint64_t inodes = 0;
    for (GroupNumber group = 0; group < count(); ++group) inodes += volume().groups().free_inodes(group);
    volume().groups().set_free_inodes(inodes);
  }
  void set_all(std::uint32_t inodes, std::uint32_t directories, std::uint32_t clusters) {
    for (GroupNumber group = 0; group < count(); ++group) set(group, inodes, directories, clusters);
    sum();
  }

 private:
  TestVolume image_;
  OpenVolume open_{image_};
};

TEST(OrlovAllocator, TopDirectoriesGoWhereFewestAreAndMoreThanAverageIsFree) {
  Figures figures("-O ^flex_bg,^resize_inode");
  ASSERT_EQ(figures.count(), 64U);
  ASSERT_EQ(figures.inodes_per_group(), 64U);
  figures.set_all(50, 4, 500);
  // Fewest directories, but fewer inodes than the average; fewer blocks; as few, but behind the right one.
  figures.set(10, 40, 0, 600);
  figures.set(11, 55, 0, 400);
  figures.set(20, 55, 1, 600);
  figures.set(30, 55, 1, 600);
  figures.set(40, 60, 2, 900);
  figures.sum();
  auto orlov = figures.make();
  EXPECT_EQ(orlov.group_of_top_directory(kRootInode), 20U);
  figures.set(20, 54, 2, 600);
  EXPECT_EQ(orlov.group_of_top_directory(kRootInode), 30U);
  // None has more than the average of both: then by inodes alone, from the parent's group on.
  figures.set_all(30, 4, 500);
  for (GroupNumber group = 0; group < figures.count(); ++group)
    group % 2 == 0 ? figures.set(group, 60, 4, 10) : figures.set(group, 10, 4, 600);
  figures.sum();
  EXPECT_EQ(orlov.group_of_top_directory(figures.inode_in(7)), 8U);
}

TEST(OrlovAllocator, DirectoriesStayNearTheirParentUntilItIsFuller) {
  Figures figures("-O ^flex_bg,^resize_inode");
  figures.set_all(40, 2, 500);
  auto orlov = figures.make();
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(9)), 9U);
  // The least: 40 - 64/4 inodes, about 500 - 1024/4 blocks; the most: 2 + 64/16 directories.
  figures.set(9, 25, 5, 260);
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(9)), 9U);
  figures.set(9, 20, 2, 500);
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(9)), 10U);
  figures.set(10, 40, 6, 500);
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(9)), 11U);
  figures.set(11, 40, 2, 200);
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(9)), 12U);
  // It goes on where it was last.
  figures.set_all(40, 2, 500);
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(9)), 12U);
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(8)), 8U);
  // All have too many directories.
  figures.set_all(1, 40, 500);
  figures.set(63, 0, 40, 500);
  figures.sum();
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(63)), 0U);
}

TEST(OrlovAllocator, FlexGroupsAreLookedAtAsOne) {
  Figures figures("-O flex_bg,^resize_inode -G 8");
  ASSERT_EQ(figures.volume().flex_size(), 8U);
  figures.set_all(50, 4, 500);
  // The fewest directories of a group are not the fewest of a flex group.
  figures.set(8, 50, 0, 500);
  for (GroupNumber group = 24; group < 32; ++group) figures.set(group, 51, 3, 501);
  figures.set(24, 0, 3, 501);
  figures.set(25, 102, 3, 501);
  figures.sum();
  auto orlov = figures.make();
  EXPECT_EQ(orlov.group_of_top_directory(kRootInode), 25U) << "its first one with a free inode";
  EXPECT_EQ(orlov.group_of_directory(figures.inode_in(29)), 25U);
  EXPECT_EQ(orlov.group_of_file(figures.inode_in(29)), 25U);
  EXPECT_EQ(orlov.group_of_file(figures.inode_in(20)), 16U);
  for (GroupNumber group = 16; group < 24; ++group) figures.set(group, 0, 3, 500);
  EXPECT_EQ(orlov.group_of_file(figures.inode_in(20)), 25U);
  // Where the others of the directory went, though its own flex group has room for directories again.
  figures.set(25, 90, 40, 0);
  EXPECT_EQ(orlov.group_of_file(figures.inode_in(20)), 25U);
}

TEST(OrlovAllocator, FilesWithoutFlexGroupsAreHashedByTheirDirectory) {
  Figures figures("-O ^flex_bg,^resize_inode");
  figures.set_all(40, 2, 500);
  auto orlov = figures.make();
  const InodeNumber parent = figures.inode_in(9);
  EXPECT_EQ(orlov.group_of_file(parent), 9U);
  figures.set(9, 40, 2, 0);
  const GroupNumber hashed = (9 + parent) % 64;
  EXPECT_EQ(orlov.group_of_file(parent), (hashed + 1) % 64);
  EXPECT_NE(orlov.group_of_file(parent), orlov.group_of_file(parent + 1));
  figures.set((hashed + 1) % 64, 0, 2, 500);
  EXPECT_EQ(orlov.group_of_file(parent), (hashed + 3) % 64);
  // Room for data nowhere: any inode behind the parent's.
  figures.set_all(40, 2, 0);
  figures.set(10, 0, 2, 0);
  EXPECT_EQ(orlov.group_of_file(parent), 11U);
}

class OnAVolume : public testing::Test {
 protected:
  // A flex group.
  [[nodiscard]] static std::uint32_t place_of(InodeNumber number) { return (number - 1) / 64 / 8; }
  TestVolume volume_{"-t ext4 -b 1024 -g 1024 -N 4096 -G 8 -O ^resize_inode,^has_journal", "64M"};
};

TEST_F(OnAVolume, DirectoriesOfTheRootAreSpreadAndTheirTreesAreNot) {
  auto& fs = volume_.mount();
  std::set<std::uint32_t> places;
  for (int i = 0; i < 7; ++i) {
    const auto top = volume_.make_directory(kRootInode, fmt::format("top {}", i));
    places.insert(place_of(top));
    for (int j = 0; j < 5; ++j) {
      const auto below = volume_.make_directory(top, fmt::format("below {}", j));
      EXPECT_EQ(place_of(below), place_of(top));
      EXPECT_EQ(place_of(volume_.make_file(below, "file")), place_of(top));
    }
  }
  EXPECT_GE(places.size(), 5U);
  // chattr +T
  const auto homes = volume_.make_directory(kRootInode, "homes");
  ASSERT_TRUE(fs.set_flags(homes, fs.flags(homes)->flags | EXT2_TOPDIR_FL));
  places.clear();
  for (int i = 0; i < 7; ++i) places.insert(place_of(volume_.make_directory(homes, fmt::format("{}", i))));
  EXPECT_GE(places.size(), 4U);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

}  // namespace
}  // namespace fuse4fs::ext4
