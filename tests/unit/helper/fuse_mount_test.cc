// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/fuse_mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "helper/fuse_device.h"
#include "helper/mount_table.h"
#include "helper/server_words.h"
#include "tests/unit/helper/fake_server.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

class FuseMountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_FUSE();
    image_ = directory_.make_image("image");
    where_ = std::filesystem::canonical(directory_.make_directory("mnt"));
  }
  void TearDown() override {
    if (!where_.empty()) ::umount2(where_.c_str(), MNT_DETACH);
  }
  TemporaryDirectory directory_;
  std::string image_;
  std::string where_;
};

TEST_F(FuseMountTest, AMountThatNobodyServesCanBeUndone) {
  {
    auto source = Source::open(image_, {});
    const auto point = MountPoint::open(where_, "");
    const auto fuse = open_fuse_device();
    ASSERT_TRUE(source && point && fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get());
    EXPECT_FALSE(clone_fuse_device(fuse->get()));
    const auto outcome = mount.mount({.flags = MS_RDONLY | MS_NODEV, .block_size = 1024});
    ASSERT_TRUE(outcome) << outcome.error().message;
    EXPECT_TRUE(mount.attached());
    EXPECT_EQ(mount.device_number(), source->device_number());
    EXPECT_TRUE(clone_fuse_device(fuse->get()));
    const MountEntry entry = find_mount(where_).value_or(MountEntry{});
    EXPECT_EQ(entry.flags, unsigned{MS_RDONLY | MS_NODEV | MS_RELATIME});
    EXPECT_EQ(entry.device, source->device_number());
    // INIT was never answered, and this process itself holds the descriptor: nothing may wait for it.
    mount.undo();
    EXPECT_FALSE(find_mount(where_));
    EXPECT_FALSE(mount.attached());
  }
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
}

TEST_F(FuseMountTest, ADeviceThatWasSwappedIsRefused) {
  const std::string other_image = directory_.make_image("other");
  {
    const auto first = Source::open(image_, {.claim = Claim::kLeftToService});
    const auto second = Source::open(other_image, {.claim = Claim::kLeftToService});
    ASSERT_TRUE(first && second);
    const std::string node = directory_.path("disk");
    ASSERT_EQ(::mknod(node.c_str(), S_IFBLK | 0600, first->device_number()), 0);
    auto source = Source::open(node, {});
    ASSERT_TRUE(source) << source.error().message;
    ASSERT_EQ(::unlink(node.c_str()), 0);
    ASSERT_EQ(::mknod(node.c_str(), S_IFBLK | 0600, second->device_number()), 0);

    const auto point = MountPoint::open(where_, "");
    const auto fuse = open_fuse_device();
    ASSERT_TRUE(point && fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get());
    const auto outcome = mount.mount({});
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().error, Errno(ESTALE));
    EXPECT_FALSE(mount.attached());
    EXPECT_FALSE(find_mount(where_));
  }
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
  EXPECT_EQ(testing::loop_devices_left(other_image), 0);
}

TEST_F(FuseMountTest, TheSuperblockOfAnotherMountIsNotShared) {
  {
    auto first = Source::open(image_, {});
    const auto point = MountPoint::open(where_, "");
    const auto fuse = open_fuse_device();
    ASSERT_TRUE(first && point && fuse);
    FuseMount mount("fuse4fs", *first, *point, fuse->get());
    ASSERT_TRUE(mount.mount({}));
    // A helper that lost the race between its claim and the kernel's.
    auto second = Source::open(first->path(), {.claim = Claim::kLeftToService});
    const auto other_fuse = open_fuse_device();
    ASSERT_TRUE(second && other_fuse);
    FuseMount other("fuse4fs", *second, *point, other_fuse->get());
    const auto outcome = other.mount({});
    ASSERT_FALSE(outcome);
    EXPECT_TRUE(clone_fuse_device(fuse->get())) << "the first one's connection is untouched";
    mount.undo();
  }
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
}

TEST_F(FuseMountTest, TheKernelsWordsAreKept) {
  auto source = Source::open(image_, {});
  const auto point = MountPoint::open(where_, "");
  ASSERT_TRUE(source && point);
  const UniqueFd no_fuse(::open("/dev/null", O_RDWR | O_CLOEXEC));
  FuseMount mount("fuse4fs", *source, *point, no_fuse.get());
  const auto outcome = mount.mount({});
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr(source->path()));
}

TEST(MountAttributes, AccessTimesAreOneOfThree) {
  EXPECT_EQ(mount_attributes(0), unsigned{MOUNT_ATTR_RELATIME});
  EXPECT_EQ(mount_attributes(MS_NOATIME | MS_RELATIME), unsigned{MOUNT_ATTR_NOATIME});
  EXPECT_EQ(mount_attributes(MS_STRICTATIME | MS_NODIRATIME),
            unsigned{MOUNT_ATTR_STRICTATIME | MOUNT_ATTR_NODIRATIME});
  EXPECT_EQ(mount_attributes(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW),
            unsigned{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                     MOUNT_ATTR_NOSYMFOLLOW});
}

TEST(MountPoint, MustBeADirectory) {
  const TemporaryDirectory directory;
  EXPECT_EQ(MountPoint::open(directory.path("absent"), "").error().error, Errno(ENOENT));
  EXPECT_EQ(MountPoint::open(directory.make_image("file"), "").error().error, Errno(ENOTDIR));
  EXPECT_FALSE(MountPoint::open("/tmp", directory.path("absent")));
}

TEST(MountTable, SpellsOutWithoutLookingAtTheLastName) {
  const TemporaryDirectory directory;
  const std::string real = std::filesystem::canonical(directory.path("."));
  ASSERT_EQ(::symlink(".", directory.path("here").c_str()), 0);
  EXPECT_EQ(spell_out(directory.path("here/absent")), real + "/absent");
  EXPECT_EQ(spell_out(directory.path("absent///")), real + "/absent");
  EXPECT_EQ(spell_out("/mnt"), "/mnt");
  for (const char* const wrong : {"", ".", "..", "/", "/absent-really/x", "a/.."})
    EXPECT_EQ(spell_out(wrong), std::nullopt) << wrong;
  EXPECT_FALSE(find_mount(real));
  EXPECT_TRUE(find_mount("/"));
}

TEST(ServerWords, ControlCharactersAreTakenOut) {
  EXPECT_EQ(without_control_characters("a\x1b[31mb\r\n\tc\x7f\x9b"), "a[31mb\n\tc?");
}

}  // namespace
}  // namespace fuse4fs::helper
