// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/fuse_mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <tuple>
#include <utility>
#include <vector>

#include "helper/abort.h"
#include "helper/fuse_device.h"
#include "helper/mount_table.h"
#include "helper/remount.h"
#include "helper/server_words.h"
#include "tests/unit/helper/fake_server.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;

Failure failure_of(const Outcome<void>& outcome) {
  return outcome ? Failure{Errno(0), "no failure"} : outcome.error();
}

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

TEST_F(FuseMountTest, LazytimeAndTheRootsNodeAreTheKernels) {
  {
    auto source = Source::open(image_, {});
    const auto point = MountPoint::open(where_, "");
    ASSERT_TRUE(source && point);
    const auto fuse = open_fuse_device();
    ASSERT_TRUE(fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get());
    ASSERT_TRUE(mount.mount({.flags = kLazyTime}));
    EXPECT_EQ(find_mount(where_)->flags, kLazyTime | MS_RELATIME);
    mount.undo();
  }
  {
    auto source = Source::open(image_, {});
    const auto point = MountPoint::open(where_, "");
    const auto fuse = open_fuse_device();
    ASSERT_TRUE(source && point && fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get());
    const auto outcome = mount.mount({.root_node = 2});
    EXPECT_EQ(static_cast<bool>(outcome), takes_option("fuse", "root_nodeid", "2"));
    if (!outcome) {
      EXPECT_THAT(outcome.error().message, HasSubstr("root_nodeid"));
    }
    mount.undo();
  }
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
}

TEST(TakesOption, AsTheKernelSays) {
  if (::getuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(takes_option("fuse", "max_read", "65536"));
  EXPECT_FALSE(takes_option("fuse", "max_read", "many"));
  EXPECT_FALSE(takes_option("fuse", "no_such_option", "1"));
  EXPECT_FALSE(takes_option("no-such-type", "max_read", "65536"));
}

// The directory above is exchanged while the mount is under way, for one with a mount of the same device.
TEST_F(FuseMountTest, WhatIsUndoneIsThatVeryMount) {
  {
    auto source = Source::open(image_, {});
    const auto fuse = open_fuse_device();
    const std::string where = std::filesystem::canonical(directory_.make_directory("above/mnt"));
    const auto point = MountPoint::open(where, "");
    ASSERT_TRUE(source && point && fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get());
    ASSERT_TRUE(mount.mount({}));
    std::filesystem::rename(directory_.path("above"), directory_.path("elsewhere"));
    const std::string own = std::filesystem::canonical(directory_.path("elsewhere")) / "mnt";
    std::ignore = directory_.make_directory("above/mnt");
    ASSERT_EQ(::mount(own.c_str(), where.c_str(), nullptr, MS_BIND, nullptr), 0);
    ASSERT_EQ(find_mount(where)->device, find_mount(own)->device);
    mount.undo();
    EXPECT_FALSE(find_mount(own));
    EXPECT_TRUE(find_mount(where)) << "somebody else's";
    EXPECT_EQ(::umount2(where.c_str(), MNT_DETACH), 0);
  }
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
}

// The table of mounts says ours, and the path leads to another one.
TEST_F(FuseMountTest, AbortAndRemountTouchNothingElse) {
  {
    const std::string decoy = directory_.make_directory("decoy");
    ASSERT_EQ(::mount("none", decoy.c_str(), "tmpfs", 0, nullptr), 0);
    ASSERT_EQ(::mkdir((decoy + "/mnt").c_str(), 0755), 0);
    ASSERT_EQ(::mount("none", (decoy + "/mnt").c_str(), "tmpfs", 0, nullptr), 0);
    auto source = Source::open(image_, {});
    const auto fuse = open_fuse_device();
    const std::string where = std::filesystem::canonical(directory_.make_directory("above/mnt"));
    const std::string above = std::filesystem::canonical(directory_.path("above"));
    const auto point = MountPoint::open(where, "");
    ASSERT_TRUE(source && point && fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get());
    ASSERT_TRUE(mount.mount({}));
    ASSERT_EQ(::mount(decoy.c_str(), above.c_str(), nullptr, MS_MOVE, nullptr), 0);
    ASSERT_TRUE(has_type(*find_mount(where), "fuse4fs"));

    MountOptions read_only;
    read_only.flags = read_only.mentioned = MS_RDONLY;
    EXPECT_THAT(failure_of(remount(where, "fuse4fs", read_only)).message, HasSubstr("another mount"));
    EXPECT_EQ(::mkdir((where + "/new").c_str(), 0755), 0) << "it was made read-only";
    EXPECT_THAT(failure_of(abort_mount(where, "fuse4fs")).message, HasSubstr("another mount"));
    EXPECT_TRUE(std::filesystem::exists(where + "/new")) << "it was unmounted";
    EXPECT_TRUE(clone_fuse_device(fuse->get()));

    ASSERT_EQ(::umount2(where.c_str(), 0), 0);
    ASSERT_EQ(::umount2(above.c_str(), 0), 0);
    EXPECT_TRUE(abort_mount(where, "fuse4fs"));
    EXPECT_FALSE(find_mount(where));
  }
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
}

// The kernel has one user_id= a superblock, by which umount(8) goes.
TEST_F(FuseMountTest, ASecondMountIsItsOwnersOnly) {
  const MountOwner owner{.user = 1000, .group = 100};
  const MountOwner other{.user = 1001, .group = 100};
  const std::string second = std::filesystem::canonical(directory_.make_directory("second"));
  for (const auto& [first, others] :
       {std::pair{owner, std::vector{other, MountOwner{}}}, std::pair{MountOwner{}, std::vector{owner}}}) {
    // Who looks through all loop devices keeps the one of the round before for a moment.
    ASSERT_EQ(testing::loop_devices_left(image_), 0);
    auto source = Source::open(image_, {});
    const auto point = MountPoint::open(where_, "");
    const auto second_point = MountPoint::open(second, "");
    const auto fuse = open_fuse_device();
    ASSERT_TRUE(source && point && second_point && fuse);
    FuseMount mount("fuse4fs", *source, *point, fuse->get(), first);
    ASSERT_TRUE(mount.mount({}));
    EXPECT_EQ(find_mount(where_)->user, first.user);
    const auto mount_again = [&](const MountOwner& who) {
      auto device = Source::open(source->path(), {.claim = Claim::kLeftToService});
      const auto own_fuse = open_fuse_device();
      return FuseMount("fuse4fs", *device, *second_point, own_fuse->get(), who).mount_again({});
    };
    for (const MountOwner& who : others) {
      const Failure refused = failure_of(mount_again(who));
      EXPECT_EQ(refused.error, Errno(EPERM)) << who.user;
      EXPECT_THAT(refused.message, HasSubstr(first.user == 0 ? "for root" : "for user 1000"));
      EXPECT_FALSE(find_mount(second));
    }
    EXPECT_TRUE(mount_again(first));
    EXPECT_EQ(find_mount(second)->user, first.user);
    EXPECT_EQ(mounts_of_user(first.user, "fuse4fs").size(), 2U);
    EXPECT_EQ(::umount2(second.c_str(), MNT_DETACH), 0);
    mount.undo();
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
