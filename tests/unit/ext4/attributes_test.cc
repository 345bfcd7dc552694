// SPDX-License-Identifier: GPL-2.0-or-later
// What set_attributes() lets through, and the ends of what an inode can hold.
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using Times = AttributeChanges::Times;

bool operator==(const Timestamp& one, const Timestamp& other) {
  return one.seconds == other.seconds && one.nanoseconds == other.nanoseconds;
}

constexpr std::int64_t kFirst = INT32_MIN;                           // 1901
constexpr std::int64_t kLast = (std::int64_t{3} << 32) + INT32_MAX;  // 2446
constexpr std::int64_t kLastNarrow = INT32_MAX;                      // 2038

TEST(Attributes, TimesAreClampedToWhatTheInodeHolds) {
  for (const bool narrow : {false, true}) {
    SCOPED_TRACE(narrow);
    TestVolume volume(narrow ? "-t ext4 -I 128" : "-t ext4");
    auto& fs = volume.mount();
    EXPECT_EQ(fs.time_granularity(), narrow ? 1'000'000'000U : 1U);
    const std::int64_t last = narrow ? kLastNarrow : kLast;
    const auto file = volume.make_file(kRootInode, "file");
    const std::pair<Timestamp, Timestamp> cases[] = {{{kFirst - 5, 7}, {kFirst, 0}},
                                                     {{INT64_MIN, 7}, {kFirst, 0}},
                                                     {{kFirst, 7}, {kFirst, 0}},
                                                     {{kFirst + 1, 7}, {kFirst + 1, 7}},
                                                     {{-1, 999'999'999}, {-1, 999'999'999}},
                                                     {{0, 1}, {0, 1}},
                                                     {{last - 1, 7}, {last - 1, 7}},
                                                     {{last, 7}, {last, 0}},
                                                     {{last + 1, 7}, {last, 0}},
                                                     {{INT64_MAX, 7}, {last, 0}}};
    for (auto [set, kept] : cases) {
      if (narrow) kept.nanoseconds = 0;
      ASSERT_TRUE(fs.set_attributes(file, {.accessed = set, .modified = set, .changed = set}));
      const auto got = fs.attributes(file).value();
      EXPECT_TRUE(got.accessed == kept) << set.seconds << ": " << got.accessed.seconds;
      EXPECT_TRUE(got.modified == kept) << set.seconds << ": " << got.modified.seconds;
      EXPECT_TRUE(got.changed == kept) << set.seconds << ": " << got.changed.seconds;
    }
    EXPECT_EQ(fs.attributes(file)->created.has_value(), !narrow);
    EXPECT_EQ(volume.unmount_and_check(), "");
  }
}

TEST(Attributes, EachChangeSetsCtime) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  const Timestamp long_ago{1000, 5};
  const AttributeChanges changes[] = {
      {.permissions = 0600}, {.uid = 5}, {.gid = 6}, {.size = 10}, {.accessed = long_ago},
      {.modified = long_ago}};
  for (const auto& change : changes) {
    ASSERT_TRUE(fs.set_attributes(file, {.modified = long_ago, .changed = long_ago}));
    const auto after = fs.set_attributes(file, change).value();
    EXPECT_GT(after.changed.seconds, 1'000'000'000);
    EXPECT_EQ(after.modified == long_ago, !change.size);
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Attributes, PrivilegesGoWhereTheCallerSaysSo) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  const auto directory = volume.make_directory(kRootInode, "directory");
  const std::pair<mode_t, mode_t> cases[] = {
      {06755, 0755}, {06745, 02745}, {02755, 0755}, {04711, 0711}, {07777, 01777}};
  for (const auto& [before, after] : cases) {
    ASSERT_TRUE(fs.set_attributes(file, {.permissions = before}));
    const auto kept = fs.set_attributes(file, {.uid = 5});
    EXPECT_EQ(kept->mode & 07777, before);
    const auto cleared =
        fs.set_attributes(file, {.gid = 6, .privileges = AttributeChanges::Privileges::kClear});
    EXPECT_EQ(cleared->mode & 07777, after);
    EXPECT_EQ(cleared->gid, 6U);
  }
  ASSERT_TRUE(fs.set_attributes(directory, {.permissions = 06755}));
  EXPECT_EQ(
      fs.set_attributes(directory, {.uid = 5, .privileges = AttributeChanges::Privileges::kClear})->mode &
          07777,
      06755U);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Attributes, ImmutableAndAppendOnlyInodesTakeWhatExt4Lets) {
  TestVolume volume;
  volume.mount();
  volume.make_file(kRootInode, "fixed");
  volume.make_file(kRootInode, "log");
  volume.unmount();
  ASSERT_EQ(run("debugfs -w -R 'sif /fixed flags 0x80010' " + volume.image().string()).status, 0);
  ASSERT_EQ(run("debugfs -w -R 'sif /log flags 0x80020' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  const Timestamp some{1'700'000'000, 7};
  for (const char* name : {"fixed", "log"}) {
    SCOPED_TRACE(name);
    const bool log = std::string_view(name) == "log";
    const auto file = fs.lookup(kRootInode, name).value();
    for (const AttributeChanges& change :
         {AttributeChanges{.permissions = 0600}, AttributeChanges{.uid = 1}, AttributeChanges{.gid = 1},
          AttributeChanges{.size = 0}, AttributeChanges{.size = 10}, AttributeChanges{.accessed = some},
          AttributeChanges{.modified = some}, AttributeChanges{.accessed = some, .modified = some}}) {
      const auto changed = fs.set_attributes(file.inode, change);
      EXPECT_EQ(changed ? Errno(0) : changed.error(), Errno(EPERM));
    }
    EXPECT_EQ(
        fs.set_attributes(file.inode, {.accessed = some, .modified = some, .times = Times::kNow}).has_value(),
        log);
    // What the kernel's cache brings back is of changes that were allowed.
    const auto written_back =
        fs.set_attributes(file.inode, {.modified = some, .changed = some, .times = Times::kWrittenBack});
    ASSERT_TRUE(written_back);
    EXPECT_TRUE(written_back->modified == some);
    EXPECT_TRUE(fs.set_attributes(file.inode, {.modified = some, .changed = Timestamp{1'800'000'000, 0}}))
        << "a late ctime, with the mtime as it is";
  }
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// As ext4: only an index lets a directory have more subdirectories than can be counted, with 1 for all of
// them.
TEST(Attributes, MoreSubdirectoriesThanCanBeCounted) {
  for (const std::string options : {"-t ext4", "-t ext4 -O ^dir_nlink", "-t ext4 -O ^dir_index", "-t ext2"}) {
    SCOPED_TRACE(options);
    TestVolume volume(options);
    volume.mount();
    const auto indexed = volume.make_directory(kRootInode, "indexed");
    for (int i = 0; i < 30; ++i) volume.make_file(indexed, std::string(200, 'x') + std::to_string(i));
    volume.make_directory(kRootInode, "small");
    volume.make_directory(volume.make_directory(kRootInode, "from"), "moved");
    volume.make_directory(kRootInode, "over");
    volume.unmount();
    const auto set_links = [&](const std::string& name, int links) {
      const auto command = "debugfs -w -R 'sif " + name + " links_count " + std::to_string(links) + "' ";
      ASSERT_EQ(run(command + volume.image().string()).status, 0);
    };
    for (const char* const name : {"/indexed", "/small"}) set_links(name, 65000);
    set_links("/over", 1);
    auto& fs = volume.mount();
    const auto small = fs.lookup(kRootInode, "small")->inode;
    const auto from = fs.lookup(kRootInode, "from")->inode;
    const auto over = fs.lookup(kRootInode, "over")->inode;
    (void)fs.lookup(kRootInode, "indexed");
    const bool goes_on = options == "-t ext4";
    for (const InodeNumber full : {small, indexed}) {
      const bool has_room = goes_on && full == indexed;
      EXPECT_TRUE(fs.make(full, "file", {.mode = S_IFREG})) << "files are not counted";
      const auto made = fs.make(full, "sub", {.mode = S_IFDIR | 0755});
      EXPECT_EQ(made ? Errno(0) : made.error(), Errno(has_room ? 0 : EMLINK));
      EXPECT_EQ(fs.attributes(full)->links, has_room ? 1U : 65000U);
      const auto moved = fs.rename(from, "moved", full, "moved", {});
      EXPECT_EQ(moved ? Errno(0) : moved.error(), Errno(has_room ? 0 : EMLINK));
    }
    EXPECT_EQ(fs.attributes(from)->links, goes_on ? 2U : 3U);
    EXPECT_EQ(fs.attributes(over)->links, 1U);
    EXPECT_TRUE(fs.make(over, "sub", {.mode = S_IFDIR | 0755}));
    EXPECT_EQ(fs.attributes(over)->links, 2U);
    EXPECT_TRUE(fs.remove_directory(over, "sub"));
    EXPECT_EQ(fs.attributes(over)->links, 2U);
    volume.unmount();
    set_links("/small", 2);
    if (!goes_on) set_links("/indexed", 2);
    EXPECT_EQ(volume.check(), "");
  }
}

TEST(Attributes, WhoSetsTheTimesOfContentsMayTurnOutLater) {
  TestVolume volume;
  auto& fs = volume.mount({.content_times = MountOptions::ContentTimes::kCallers});
  const InodeNumber file = volume.make_file(kRootInode, "file");
  const Timestamp old{1'000'000'000, 0};
  ASSERT_TRUE(fs.set_attributes(file, {.modified = old}));
  volume.write(file, 0, "x");
  EXPECT_TRUE(fs.attributes(file)->modified == old);
  fs.set_content_times(MountOptions::ContentTimes::kOurs);
  volume.write(file, 0, "y");
  EXPECT_FALSE(fs.attributes(file)->modified == old);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// The superblock's own figure may be absent or wrong.
TEST(Attributes, StatfsCountsTheVolumesOwnBlocksItself) {
  for (const std::string options : {"-t ext4 -b 1024", "-t ext4 -O bigalloc -C 16384"}) {
    SCOPED_TRACE(options);
    TestVolume volume(options);
    const auto blocks = volume.mount().statistics()->blocks;
    volume.unmount();
    // With clusters the superblock's word counts, if it is one.
    for (const std::string figure : {"0", "4000000000"}) {
      ASSERT_EQ(run("debugfs -w -R 'ssv overhead_blocks " + figure + "' " + volume.image().string()).status,
                0);
      const auto got = volume.mount().statistics()->blocks;
      // Reserved descriptor blocks are in mke2fs's figure, and not in the kernel's for clusters.
      const std::uint64_t slack = options.find("bigalloc") == std::string::npos ? 0 : 64;
      EXPECT_GE(got, blocks);
      EXPECT_LE(got, blocks + slack);
      volume.unmount();
    }
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
