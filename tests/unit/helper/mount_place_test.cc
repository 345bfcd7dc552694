// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_place.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryDirectory;

// A mount at above/mnt.
class MountPlaceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::getuid() != 0) GTEST_SKIP() << "SKIPPED: needs root";
    ASSERT_TRUE(testing::mount_in_private());
    top_ = fs::canonical(directory_.path("."));
    where_ = mount_at("above/mnt");
    entry_ = find_mount(where_).value();
  }
  void TearDown() override {
    for (const char* const place : {"above/mnt", "elsewhere/mnt"})
      while (::umount2((top_ / place).c_str(), MNT_DETACH) == 0) {
      }
  }
  std::string mount_at(const std::string& place) {
    fs::create_directories(top_ / place);
    EXPECT_EQ(::mount("none", (top_ / place).c_str(), "tmpfs", 0, nullptr), 0);
    return top_ / place;
  }
  // What a user can who may rename the directory above: now the path of the mount leads to another one.
  void exchange() {
    fs::rename(top_ / "above", top_ / "elsewhere");
    mount_at("above/mnt");
    other_ = find_mount(where_)->id;
    ASSERT_NE(other_, entry_.id);
  }
  void expect_only_the_other() {
    EXPECT_FALSE(mount_with_id(entry_.id));
    EXPECT_TRUE(mount_with_id(other_));
  }

  TemporaryDirectory directory_;
  fs::path top_;
  std::string where_;
  MountEntry entry_;
  int other_ = 0;
};

TEST_F(MountPlaceTest, WhatIsUnmountedIsWhatWasJudged) {
  const auto place = MountPlace::find(entry_);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->identity().id, entry_.id);
  EXPECT_EQ(place->identity().device, entry_.device);
  exchange();
  EXPECT_EQ(MountPlace::find(entry_).error(), Errno(ESTALE)) << "its path leads to another one by now";
  const auto root = place->open(O_PATH);
  ASSERT_TRUE(root);
  EXPECT_EQ(identity_of(root->get(), ""), place->identity());
  EXPECT_EQ(place->unmount(0).error(), Errno(EBUSY)) << "this test has it open";
  ASSERT_TRUE(place->unmount(MNT_DETACH));
  expect_only_the_other();
}

TEST_F(MountPlaceTest, WhatLiesUnderAnotherIsLeftAlone) {
  const auto place = MountPlace::find(entry_);
  const UniqueFd root(::open(where_.c_str(), O_PATH | O_CLOEXEC));
  const UniqueFd descriptors(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(place && root && descriptors);
  const std::string top = mount_at("above/mnt");
  const int id = find_mount(top)->id;
  EXPECT_EQ(place->open(O_PATH).error(), Errno(ESTALE));
  EXPECT_EQ(place->unmount(MNT_DETACH).error(), Errno(ESTALE));
  EXPECT_EQ(detach(root.get(), descriptors.get()).error(), Errno(ESTALE));
  EXPECT_TRUE(mount_with_id(id));
  ASSERT_EQ(::umount2(top.c_str(), 0), 0);
  EXPECT_TRUE(detach(root.get(), descriptors.get()));
  EXPECT_FALSE(mount_with_id(entry_.id));
  EXPECT_EQ(detach(root.get(), descriptors.get()).error(), Errno(EINVAL)) << "it is attached nowhere";
}

TEST_F(MountPlaceTest, ADescriptorLeadsToItsMountWhereverItIs) {
  const UniqueFd root(::open(where_.c_str(), O_PATH | O_CLOEXEC));
  const UniqueFd descriptors(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(root && descriptors);
  exchange();
  ASSERT_TRUE(detach(root.get(), descriptors.get()));
  expect_only_the_other();
}

}  // namespace
}  // namespace fuse4fs::helper
