// SPDX-License-Identifier: GPL-2.0-or-later
// What lies on the medium while a mounted volume is frozen: what a snapshot of the device would hold.
#include <fmt/format.h>

#include "server/ext4/ext2.h"
#include "tests/devices/faulty_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

std::string state_of(const TestVolume& volume) {
  return run("dumpe2fs -h " + volume.image().string() + " 2>&1 | sed -n 's/^Filesystem state: *//p'").output;
}

TEST(Freeze, TheMediumIsCleanAndWhole) {
  for (const auto* const form : {"-t ext4", "-t ext4 -O ^has_journal", "-t ext2"}) {
    SCOPED_TRACE(form);
    TestVolume volume(form);
    auto& fs = volume.mount();
    const auto file = volume.make_file(kRootInode, "file");
    volume.write(file, 0, std::string(100'000, 'x'));
    EXPECT_EQ(state_of(volume), "not clean\n");
    ASSERT_TRUE(fs.freeze());
    EXPECT_EQ(state_of(volume), "clean\n");
    EXPECT_EQ(volume.check(), "");
    const auto frozen = volume.image_bytes();
    EXPECT_EQ(volume.read(file, 99'999, 1), "x");
    ASSERT_TRUE(fs.write_back());
    ASSERT_TRUE(fs.sync());
    EXPECT_TRUE(fs.initialise_inode_table()) << "later";
    EXPECT_TRUE(volume.image_bytes() == frozen) << "written to while it was frozen";
    ASSERT_TRUE(fs.thaw());
    EXPECT_EQ(state_of(volume), "not clean\n");
    volume.write(file, 100'000, "more");
    ASSERT_TRUE(fs.sync());
    EXPECT_EQ(volume.unmount_and_check(), "");
    EXPECT_EQ(state_of(volume), "clean\n");
  }
}

// They are e2fsck's to free, which looks only where the volume is not called clean.
TEST(Freeze, WithUnlinkedInodesTheMediumIsWholeButForThem) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, "content");
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  ASSERT_TRUE(fs.freeze());
  EXPECT_EQ(state_of(volume), "not clean\n");
  ASSERT_TRUE(fs.thaw());
  EXPECT_EQ(volume.read(file, 0, 7), "content");
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// The kernel forgets inodes whenever it likes.
TEST(Freeze, WhatIsForgottenMeanwhileIsDeletedAfterwards) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, std::string(1 << 20, 'x'));
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  ASSERT_TRUE(fs.freeze());
  const auto frozen = volume.image_bytes();
  const auto free_before = fs.statistics()->free_blocks;
  fs.forget(file, 1);
  ASSERT_TRUE(fs.sync());
  fs.shrink();
  EXPECT_TRUE(volume.image_bytes() == frozen) << "written to while it was frozen";
  EXPECT_EQ(fs.statistics()->free_blocks, free_before);
  ASSERT_TRUE(fs.thaw());
  EXPECT_GE(fs.statistics()->free_blocks, free_before + 256);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// Nor is it left where nobody thaws the volume.
TEST(Freeze, AnUnmountOfAFrozenVolumeDeletesWhatWasForgotten) {
  TestVolume volume;
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  ASSERT_TRUE(fs.freeze());
  fs.forget(file, 1);
  EXPECT_EQ(volume.unmount_and_check(), "");
}

// A power cut in the middle must not leave a volume that nobody looks at.
TEST(Freeze, AnUnmountOfAFrozenVolumeFirstSaysThatItIsNotClean) {
  const auto recording = std::make_shared<cache::Recording>();
  TestVolume volume;
  volume.wrap_device = [&](auto device) {
    return std::make_unique<cache::RecordingBackend>(std::move(device), recording);
  };
  auto& fs = volume.mount();
  const auto file = volume.make_file(kRootInode, "file");
  volume.write(file, 0, std::string(100'000, 'x'));
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  const auto other = volume.make_file(kRootInode, "other");
  fs.forget(file, 1);
  ASSERT_TRUE(fs.freeze());
  ASSERT_EQ(state_of(volume), "clean\n");
  const std::size_t since = recording->operations().size();
  fs.forget(other, 1);
  EXPECT_EQ(volume.unmount_and_check(), "");
  const auto& operations = recording->operations();
  ASSERT_GT(operations.size(), since);
  constexpr std::size_t kState = 1024 + 0x3A;  // s_state, within the device
  const auto& first = operations[since];
  ASSERT_LE(first.offset, kState);
  ASSERT_GT(first.offset + first.length, kState);
  EXPECT_EQ(first.bytes[kState - first.offset] & std::byte{EXT2_VALID_FS}, std::byte{0});
}

// The kernel would leave everybody waiting.
TEST(Freeze, AThawThatTheDeviceDoesNotTakeIsOneAllTheSame) {
  const auto faults = std::make_shared<cache::Faults>();
  TestVolume volume("-t ext4 -e continue");
  volume.wrap_device = [&](auto device) {
    return std::make_unique<cache::FaultyBackend>(std::move(device), faults);
  };
  auto& fs = volume.mount();
  ASSERT_TRUE(fs.freeze());
  faults->add({.operation = cache::Fault::Operation::kWrite, .times = cache::Fault::kForever});
  EXPECT_TRUE(fs.thaw());
  faults->clear();
  EXPECT_EQ(state_of(volume), "clean\n");
  ASSERT_TRUE(fs.write_back());
  EXPECT_NE(state_of(volume), "clean\n") << "tried again";
  EXPECT_EQ(fs.unmount().error(), Errno(EIO)) << "something was lost";
}

TEST(Freeze, AVolumeWithErrorsIsNotCalledClean) {
  TestVolume volume;
  ASSERT_EQ(run("debugfs -w -R 'ssv state 2' " + volume.image().string()).status, 0);
  auto& fs = volume.mount();
  ASSERT_TRUE(fs.freeze());
  EXPECT_NE(state_of(volume), "clean\n");
  ASSERT_TRUE(fs.thaw());
  volume.unmount();
  EXPECT_NE(state_of(volume), "clean\n");
}

TEST(Freeze, AReadOnlyMountHasNothingToDo) {
  TestVolume volume;
  const auto before = volume.image_bytes();
  auto& fs = volume.mount({.access = cache::Access::kReadOnly});
  EXPECT_TRUE(fs.freeze());
  EXPECT_TRUE(fs.thaw());
  volume.unmount();
  EXPECT_TRUE(volume.image_bytes() == before);
}

}  // namespace
}  // namespace fuse4fs::ext4
