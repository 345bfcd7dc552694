// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/source.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

using ::testing::HasSubstr;
using testing::loop_devices_left;
using testing::loop_devices_of;
using ::testing::Not;
using ::testing::StartsWith;
using testing::TemporaryDirectory;

class SourceTest : public ::testing::Test {
 protected:
  void SetUp() override { REQUIRE_ROOT_AND_LOOP_DEVICES(); }
  TemporaryDirectory directory_;
};

TEST_F(SourceTest, AnImageGetsALoopDeviceThatGoesWithItsDescriptors) {
  const std::string image = directory_.make_image("image");
  {
    auto source = Source::open(image, {});
    ASSERT_TRUE(source) << source.error().message;
    EXPECT_THAT(source->path(), StartsWith("/dev/loop"));
    EXPECT_EQ(source->device_number(), testing::device_number_of(source->path()));
    EXPECT_EQ(source->access(), Access::kReadWrite);
    EXPECT_EQ(loop_devices_of(image), 1);
    source->drop_claim();
    EXPECT_EQ(loop_devices_of(image), 1) << "the plain descriptor still holds it";
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, AnImageInUseIsRefused) {
  const std::string image = directory_.make_image("image");
  std::filesystem::create_hard_link(image, directory_.path("other-name"));
  {
    const auto first = Source::open(image, {});
    ASSERT_TRUE(first);
    for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
      const auto second = Source::open(directory_.path("other-name"), {.access = access});
      ASSERT_FALSE(second);
      EXPECT_EQ(second.error().error, Errno(EBUSY));
      EXPECT_THAT(second.error().message, HasSubstr(first->path()));
    }
    EXPECT_EQ(loop_devices_of(image), 1);
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, AnImageThatIsMountedIsNotToBeReleasedButUnmounted) {
  const std::string image = directory_.make_image("image");
  ASSERT_EQ(std::system(("mkfs.ext4 -q -F " + image).c_str()), 0);
  const std::string mount_point = std::filesystem::canonical(directory_.make_directory("mnt"));
  {
    const auto first = Source::open(image, {.claim = Claim::kLeftToService});
    ASSERT_TRUE(first);
    const auto unmounted = Source::open(image, {});
    ASSERT_FALSE(unmounted);
    EXPECT_THAT(unmounted.error().message, HasSubstr("losetup -d " + first->path()));
    ASSERT_EQ(::mount(first->path().c_str(), mount_point.c_str(), "ext4", MS_RDONLY, nullptr), 0);
    const auto mounted = Source::open(image, {});
    EXPECT_EQ(::umount2(mount_point.c_str(), UMOUNT_NOFOLLOW), 0);
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error, Errno(EBUSY));
    EXPECT_THAT(mounted.error().message,
                HasSubstr(first->path() + ", which is mounted on \"" + mount_point + "\": unmount"));
    EXPECT_THAT(mounted.error().message, Not(HasSubstr("losetup")));
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, ReadersMayShareAnImage) {
  const std::string image = directory_.make_image("image");
  {
    const auto first = Source::open(image, {.access = Access::kReadOnly});
    const auto second = Source::open(image, {.access = Access::kReadOnly});
    ASSERT_TRUE(first);
    ASSERT_TRUE(second);
    EXPECT_FALSE(Source::open(image, {}));
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, ADeviceIsClaimedOnce) {
  const std::string image = directory_.make_image("image");
  {
    auto loop = Source::open(image, {});
    ASSERT_TRUE(loop);
    EXPECT_FALSE(UniqueFd(::open(loop->path().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC)));
    const auto second = Source::open(loop->path(), {.patience = std::chrono::milliseconds(300)});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().error, Errno(EBUSY));
    EXPECT_THAT(second.error().message, HasSubstr("in use"));
    EXPECT_TRUE(Source::open(loop->path(), {.claim = Claim::kLeftToService}));
    loop->drop_claim();
    EXPECT_TRUE(Source::open(loop->path(), {}));
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, WriteProtectionIsNoticed) {
  const std::string image = directory_.make_image("image");
  {
    const auto holder = Source::open(image, {.claim = Claim::kLeftToService});
    ASSERT_TRUE(holder);
    const int on = 1;
    ASSERT_EQ(::ioctl(holder->reopen(O_RDONLY)->get(), BLKROSET, &on), 0);
    const auto source = Source::open(holder->path(), {});
    ASSERT_TRUE(source) << source.error().message;
    EXPECT_EQ(source->access(), Access::kReadOnly);
    const auto refused = Source::open(holder->path(), {.on_write_protection = OnWriteProtection::kRefuse});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().error, Errno(EROFS));
    // It outlives the loop device, and would meet the next user of this number.
    const int off = 0;
    ASSERT_EQ(::ioctl(holder->reopen(O_RDONLY)->get(), BLKROSET, &off), 0);
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, AWriteProtectionLeftByAnEarlierUserIsNotTheImages) {
  const std::string image = directory_.make_image("image");
  for (int round = 0; round < 2; ++round) {
    auto source = Source::open(image, {});
    ASSERT_TRUE(source);
    EXPECT_EQ(source->access(), Access::kReadWrite);
    const int on = 1;
    ASSERT_EQ(::ioctl(source->reopen(O_RDONLY)->get(), BLKROSET, &on), 0);
    const int off = 0;
    if (round == 1) {
      EXPECT_EQ(::ioctl(source->reopen(O_RDONLY)->get(), BLKROSET, &off), 0);
    }
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, AReadOnlySourceIsAReadOnlyLoopDevice) {
  const std::string image = directory_.make_image("image");
  {
    const auto source = Source::open(image, {.access = Access::kReadOnly});
    ASSERT_TRUE(source);
    int read_only = 0;
    ASSERT_EQ(::ioctl(source->reopen(O_RDONLY)->get(), BLKROGET, &read_only), 0);
    EXPECT_EQ(read_only, 1);
  }
  EXPECT_EQ(loop_devices_left(image), 0);
}

TEST_F(SourceTest, TheBlockSizeIsSetThroughTheClaim) {
  const std::string image = directory_.make_image("image");
  const auto source = Source::open(image, {});
  ASSERT_TRUE(source);
  for (const int wanted : {1024, 4096}) {
    ASSERT_TRUE(source->set_block_size(static_cast<std::uint32_t>(wanted)));
    int size = 0;
    ASSERT_EQ(::ioctl(source->reopen(O_RDONLY)->get(), BLKBSZGET, &size), 0);
    EXPECT_EQ(size, wanted);
  }
}

TEST_F(SourceTest, ReopeningIgnoresWhatThePathHasBecome) {
  const std::string first_image = directory_.make_image("first");
  const std::string second_image = directory_.make_image("second");
  const auto first = Source::open(first_image, {.claim = Claim::kLeftToService});
  const auto second = Source::open(second_image, {.claim = Claim::kLeftToService});
  ASSERT_TRUE(first && second);
  const std::string node = directory_.path("disk");
  ASSERT_EQ(::mknod(node.c_str(), S_IFBLK | 0600, first->device_number()), 0);
  const auto source = Source::open(node, {});
  ASSERT_TRUE(source) << source.error().message;
  ASSERT_EQ(::unlink(node.c_str()), 0);
  ASSERT_EQ(::mknod(node.c_str(), S_IFBLK | 0600, second->device_number()), 0);
  const auto again = source->reopen(O_RDWR | O_DIRECT);
  ASSERT_TRUE(again);
  struct stat status = {};
  ASSERT_EQ(::fstat(again->get(), &status), 0);
  EXPECT_EQ(status.st_rdev, first->device_number());
}

TEST_F(SourceTest, WhatIsNeitherDeviceNorImageIsRefusedInWords) {
  ASSERT_EQ(::mkfifo(directory_.path("pipe").c_str(), 0600), 0);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  directory_.path("socket").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  struct Case {
    std::string path;
    int error;
    const char* words;
  };
  const Case cases[] = {
      {directory_.path("."), ENOTBLK, "a directory"},
      {"/dev/null", ENOTBLK, "a character device"},
      {directory_.path("pipe"), ENOTBLK, "a pipe"},
      {directory_.path("socket"), ENOTBLK, "a socket"},
      {directory_.path("absent"), ENOENT, "absent"},
      {directory_.make_image("empty", 0), EINVAL, "empty"},
      {"UUID=00000000-dead-beef-0000-000000000000", ENOENT, "UUID"},
  };
  for (const auto& [path, error, words] : cases) {
    const auto source = Source::open(path, {});
    ASSERT_FALSE(source) << path;
    EXPECT_EQ(source.error().error, Errno(error)) << source.error().message;
    EXPECT_THAT(source.error().message, HasSubstr(words));
  }
}

}  // namespace
}  // namespace fuse4fs::helper
