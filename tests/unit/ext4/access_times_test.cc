// SPDX-License-Identifier: GPL-2.0-or-later
// The rules of noatime, relatime and strictatime.
#include <ctime>

#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::int64_t kDay = 86400;

std::int64_t now_seconds() { return std::time(nullptr); }

// Access, modification and change, in seconds before now.
void set_ages(FileSystem& fs, InodeNumber inode, std::int64_t accessed, std::int64_t modified,
              std::int64_t changed) {
  const auto now = now_seconds();
  ASSERT_TRUE(fs.set_attributes(inode, {.accessed = Timestamp{now - accessed, 5},
                                        .modified = Timestamp{now - modified, 5},
                                        .changed = Timestamp{now - changed, 5}}));
}

// Whether this read, of whatever it is, set the access time.
bool sets_time(TestVolume& volume, InodeNumber inode, AccessTime access_time = AccessTime::kUpdate) {
  auto& fs = volume.fs();
  const auto before = fs.attributes(inode).value();
  if (S_ISDIR(before.mode)) {
    EXPECT_TRUE(fs.read_directory(inode, 0, [](const DirectoryEntry&) { return false; }, access_time));
  } else if (S_ISLNK(before.mode)) {
    EXPECT_TRUE(fs.symlink_target(inode));
  } else {
    std::byte byte{};
    EXPECT_TRUE(fs.read(inode, 0, std::span(&byte, 1), access_time));
  }
  const auto after = fs.attributes(inode).value();
  EXPECT_EQ(after.modified.seconds, before.modified.seconds);
  EXPECT_EQ(after.changed.seconds, before.changed.seconds);
  EXPECT_EQ(after.changed.nanoseconds, before.changed.nanoseconds);
  const bool same = after.accessed.seconds == before.accessed.seconds &&
                    after.accessed.nanoseconds == before.accessed.nanoseconds;
  EXPECT_TRUE(same || now_seconds() - after.accessed.seconds <= 5) << "it is now";
  return !same;
}

struct Things {
  InodeNumber file, directory, link;
};

Things make_things(TestVolume& volume) {
  auto& fs = volume.fs();
  const Things things{.file = volume.make_file(kRootInode, "file"),
                      .directory = volume.make_directory(kRootInode, "directory"),
                      .link = fs.make_symlink(kRootInode, "link", "target", {})->inode};
  volume.write(things.file, 0, "text");
  return things;
}

TEST(AccessTimes, RelatimeSetsWhatIsNews) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto [file, directory, link] = make_things(volume);
  for (const InodeNumber inode : {file, directory, link}) {
    SCOPED_TRACE(inode);
    set_ages(fs, inode, 100, 50, 200);
    EXPECT_TRUE(sets_time(volume, inode)) << "it changed after it was read";
    EXPECT_FALSE(sets_time(volume, inode)) << "nothing happened since";
    set_ages(fs, inode, 100, 200, 50);
    EXPECT_TRUE(sets_time(volume, inode)) << "its attributes changed";
    set_ages(fs, inode, 100, 100, 200);
    EXPECT_TRUE(sets_time(volume, inode)) << "changed in the same moment";
    set_ages(fs, inode, 100, 200, 300);
    EXPECT_FALSE(sets_time(volume, inode)) << "read since";
    set_ages(fs, inode, kDay - 60, 2 * kDay, 2 * kDay);
    EXPECT_FALSE(sets_time(volume, inode)) << "not a day yet";
    set_ages(fs, inode, kDay, 2 * kDay, 2 * kDay);
    EXPECT_TRUE(sets_time(volume, inode)) << "a day ago";
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(AccessTimes, WhatIsSetReachesTheVolume) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = make_things(volume).file;
  set_ages(fs, file, 1000, 500, 500);
  ASSERT_TRUE(sets_time(volume, file));
  const auto set = fs.attributes(file)->accessed;
  ASSERT_EQ(volume.unmount_and_check(), "");
  volume.mount({.access = cache::Access::kReadOnly});
  const auto found = volume.fs().attributes(file)->accessed;
  EXPECT_EQ(found.seconds, set.seconds);
  EXPECT_EQ(found.nanoseconds, set.nanoseconds);
  volume.unmount();
}

TEST(AccessTimes, StrictatimeSetsThemAllAndNoatimeNone) {
  for (const auto rule : {AccessTimes::kStrict, AccessTimes::kNever}) {
    TestVolume volume;
    auto& fs = volume.mount({.access_times = rule, .directory_access_times = rule});
    const auto [file, directory, link] = make_things(volume);
    for (const InodeNumber inode : {file, directory, link}) {
      set_ages(fs, inode, 100, 200, 200);
      EXPECT_EQ(sets_time(volume, inode), rule == AccessTimes::kStrict);
      EXPECT_EQ(sets_time(volume, inode), rule == AccessTimes::kStrict) << "again";
      set_ages(fs, inode, 2 * kDay, 100, 100);
      EXPECT_EQ(sets_time(volume, inode), rule == AccessTimes::kStrict);
    }
    EXPECT_EQ(volume.unmount_and_check(), "");
  }
}

TEST(AccessTimes, NodiratimeIsForDirectoriesOnly) {
  TestVolume volume;
  auto& fs = volume.mount({.directory_access_times = AccessTimes::kNever});
  const auto [file, directory, link] = make_things(volume);
  for (const InodeNumber inode : {file, directory, link}) {
    set_ages(fs, inode, 100, 50, 50);
    EXPECT_EQ(sets_time(volume, inode), inode != directory);
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(AccessTimes, AReadMayAskToLeaveThem) {
  TestVolume volume;
  auto& fs =
      volume.mount({.access_times = AccessTimes::kStrict, .directory_access_times = AccessTimes::kStrict});
  const auto things = make_things(volume);
  for (const InodeNumber inode : {things.file, things.directory}) {
    set_ages(fs, inode, 100, 50, 50);
    EXPECT_FALSE(sets_time(volume, inode, AccessTime::kKeep));
    EXPECT_TRUE(sets_time(volume, inode));
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(AccessTimes, TheInodeItselfMayForbidThem) {
  TestVolume volume;
  volume.mount();
  make_things(volume);
  volume.unmount();
  // A (noatime), i (immutable: as with ext4, its access time is set).
  ASSERT_EQ(run("debugfs -w -R 'sif /file flags 0x80080' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /directory flags 0x80010' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /directory atime 19990101' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  const auto file = fs.lookup(kRootInode, "file")->inode;
  set_ages(fs, file, 2 * kDay, 50, 50);
  EXPECT_FALSE(sets_time(volume, file));
  EXPECT_TRUE(sets_time(volume, fs.lookup(kRootInode, "directory")->inode));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(AccessTimes, ReadOnlyVolumesStayAsTheyAre) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto things = make_things(volume);
  set_ages(fs, things.file, 2 * kDay, 50, 50);
  volume.unmount();
  volume.mount({.access = cache::Access::kReadOnly, .access_times = AccessTimes::kStrict});
  EXPECT_FALSE(sets_time(volume, things.file));
  EXPECT_FALSE(sets_time(volume, things.directory));
  volume.unmount();
}

}  // namespace
}  // namespace fuse4fs::ext4
