// SPDX-License-Identifier: GPL-2.0-or-later
// Inode flags, project ids, label and shutdown, where no kernel is needed to judge.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "server/ext4/ext2.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using ::testing::HasSubstr;

template <class T>
Errno error_of(const Result<T>& result) {
  return result ? Errno(0) : result.error();
}

void change(const TestVolume& volume, const std::string& command) {
  const auto done = run("debugfs -w -R '" + command + "' " + volume.image().string());
  ASSERT_EQ(done.status, 0) << done.output;
}

TEST(Flags, WhatTheVolumeSaysIsShownAndKept) {
  TestVolume volume;
  volume.mount();
  const auto file = volume.make_file(kRootInode, "f");
  const auto shown = volume.fs().flags(file).value().flags;
  EXPECT_EQ(shown, std::uint32_t{EXT4_EXTENTS_FL});
  EXPECT_EQ(error_of(volume.fs().set_flags(file, shown | EXT2_NODUMP_FL | EXT2_INDEX_FL)), Errno(0));
  // The index flag is shown where it is, and cannot be given.
  EXPECT_EQ(volume.fs().flags(file).value().flags, std::uint32_t{EXT4_EXTENTS_FL | EXT2_NODUMP_FL});
  ASSERT_EQ(volume.unmount_and_check(), "");
  volume.mount();
  EXPECT_EQ(volume.fs().flags(file).value().flags, std::uint32_t{EXT4_EXTENTS_FL | EXT2_NODUMP_FL});
  volume.unmount();
}

TEST(Flags, AnImmutableInodeMustCeaseToBeOneFirst) {
  TestVolume volume("-t ext4 -b 4096 -O project");
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "f");
  const std::uint32_t fixed = EXT4_EXTENTS_FL | EXT2_IMMUTABLE_FL;
  EXPECT_EQ(error_of(fs.set_flags(file, fixed)), Errno(0));
  EXPECT_EQ(error_of(fs.set_flags(file, fixed)), Errno(0));
  EXPECT_EQ(error_of(fs.set_flags(file, fixed | EXT2_NODUMP_FL)), Errno(EPERM));
  EXPECT_EQ(error_of(fs.set_project(file, 3)), Errno(EPERM));
  EXPECT_EQ(error_of(fs.set_project(file, 0)), Errno(0));
  EXPECT_EQ(error_of(fs.set_flags(file, EXT4_EXTENTS_FL | EXT2_NODUMP_FL)), Errno(0));
  EXPECT_EQ(error_of(fs.set_project(file, 3)), Errno(0));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Flags, NothingIsChangedOnAReadOnlyVolume) {
  TestVolume volume;
  auto& fs = volume.mount({.access = cache::Access::kReadOnly});
  EXPECT_EQ(error_of(fs.set_flags(kRootInode, EXT4_EXTENTS_FL | EXT2_NODUMP_FL)), Errno(EROFS));
  EXPECT_EQ(error_of(fs.set_project(kRootInode, 3)), Errno(EROFS));
  EXPECT_EQ(error_of(fs.set_label("label")), Errno(EROFS));
  volume.unmount();
}

// Inodes of old kernels end before the project id; behind their end may lie extended attributes.
TEST(Projects, AnInodeThatIsTooShortGrowsUnlessAttributesAreInTheWay) {
  TestVolume volume("-t ext4 -b 4096 -O project");
  volume.mount();
  const auto file = volume.make_file(kRootInode, "f"), full = volume.make_file(kRootInode, "full");
  ASSERT_EQ(volume.unmount_and_check(), "");
  for (const char* const name : {"f", "full"}) change(volume, fmt::format("sif /{} extra_isize 28", name));
  change(volume, "ea_set /full user.name value");
  ASSERT_EQ(volume.check(), "");
  auto& fs = volume.mount();
  EXPECT_EQ(fs.flags(full).value().project, 0U);
  EXPECT_EQ(error_of(fs.set_project(file, 7)), Errno(0));
  EXPECT_EQ(fs.flags(file).value().project, 7U);
  EXPECT_EQ(error_of(fs.set_project(full, 7)), Errno(EOPNOTSUPP));
  ASSERT_EQ(volume.unmount_and_check(), "");
  EXPECT_THAT(volume.debugfs("ea_get /full user.name"), HasSubstr("value"));
}

TEST(Projects, WhatIsMadeTakesThemOver) {
  TestVolume volume("-t ext4 -b 4096 -O project");
  auto& fs = volume.mount();
  const auto directory = volume.make_directory(kRootInode, "d");
  EXPECT_EQ(error_of(fs.set_project(directory, 7)), Errno(0));
  EXPECT_EQ(error_of(fs.set_flags(directory, EXT4_EXTENTS_FL | EXT4_PROJINHERIT_FL)), Errno(0));
  EXPECT_EQ(fs.flags(volume.make_directory(directory, "d")).value().project, 7U);
  EXPECT_EQ(fs.flags(volume.make_file(directory, "f")).value().project, 7U);
  const auto other = volume.make_file(kRootInode, "other");
  EXPECT_EQ(error_of(fs.link(other, directory, "l")), Errno(EXDEV));
  EXPECT_EQ(error_of(fs.rename(kRootInode, "other", directory, "o", {})), Errno(EXDEV));
  // An exchange takes one in as well.
  EXPECT_EQ(error_of(fs.rename(directory, "f", kRootInode, "other", {.mode = RenameMode::kExchange})),
            Errno(EXDEV));
  EXPECT_EQ(error_of(fs.rename(directory, "f", kRootInode, "f", {})), Errno(0));
  EXPECT_EQ(volume.unmount_and_check(), "");
}

TEST(Label, ABrokenBackupSuperblockIsLeftToE2fsck) {
  TestVolume volume("-t ext4 -b 1024 -L before", "64M");
  // The backup in group 1: one byte of its (unused) end.
  ASSERT_EQ(run(fmt::format("printf X | dd of={} bs=1 seek={} conv=notrunc", volume.image().string(),
                            8193 * 1024 + 0x3f0))
                .status,
            0);
  auto& fs = volume.mount();
  EXPECT_EQ(error_of(fs.set_label("seventeen bytes !")), Errno(EINVAL));
  EXPECT_EQ(error_of(fs.set_label("after")), Errno(0));
  EXPECT_EQ(fs.label(), "after");
  volume.unmount();
  const auto label_at = [&](long offset) {
    return run(fmt::format("dd if={} bs=1 skip={} count=5 status=none", volume.image().string(),
                           offset + 0x78))
        .output;
  };
  EXPECT_EQ(label_at(1024), "after");
  EXPECT_EQ(label_at(8193 * 1024), "befor");
  EXPECT_EQ(label_at(3 * 8192 * 1024 + 1024), "after");
}

TEST(Shutdown, EndsEverythingAndLosesOnlyWhatWasNotFlushed) {
  for (const auto mode : {ShutdownMode::kFlushFirst, ShutdownMode::kAtOnce}) {
    TestVolume volume;
    auto& fs = volume.mount();
    const auto kept = volume.make_file(kRootInode, "kept");
    volume.write(kept, 0, "kept");
    ASSERT_TRUE(fs.sync());
    volume.make_file(kRootInode, "late");
    EXPECT_EQ(error_of(fs.shut_down(mode)), Errno(0));
    EXPECT_EQ(error_of(fs.shut_down(mode)), Errno(0)) << "a second time changes nothing";
    EXPECT_EQ(error_of(fs.attributes(kept)), Errno(EIO));
    EXPECT_EQ(error_of(fs.lookup(kRootInode, "kept")), Errno(EIO));
    std::byte byte[4];
    EXPECT_EQ(error_of(fs.read(kept, 0, byte)), Errno(EIO));
    EXPECT_EQ(error_of(fs.write(kept, 0, byte, AttributeChanges::Privileges::kKeep)), Errno(EIO));
    EXPECT_EQ(error_of(fs.flags(kept)), Errno(EIO));
    EXPECT_EQ(error_of(fs.set_label("x")), Errno(EIO));
    EXPECT_EQ(error_of(fs.statistics()), Errno(EIO));
    EXPECT_EQ(error_of(fs.sync()), Errno(EIO));
    volume.unmount();
    EXPECT_EQ(volume.check(), "");
    EXPECT_THAT(run("dumpe2fs -h " + volume.image().string()).output, HasSubstr("not clean"));
    auto& again = volume.mount();
    EXPECT_TRUE(again.lookup(kRootInode, "kept"));
    EXPECT_EQ(again.lookup(kRootInode, "late").has_value(), mode == ShutdownMode::kFlushFirst);
    volume.unmount();
  }
}

}  // namespace
}  // namespace fuse4fs::ext4
