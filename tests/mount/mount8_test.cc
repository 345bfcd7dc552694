// SPDX-License-Identifier: GPL-2.0-or-later
// What a user of mount(8) and umount(8) expects, with the helper installed where mount(8) looks for it.
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "tests/mount/fixture.h"
#include "tests/mount/installed.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Mount8 : public MountTest {
 protected:
  void SetUp() override { installed_.emplace(scratch()); }

  [[nodiscard]] std::string mount_line() const {
    return run({"findmnt", "-n", "-o", "FSTYPE,OPTIONS", mount_point()}).output;
  }
  [[nodiscard]] std::string log_option() const { return "log=" + (scratch() / "log").string(); }

 private:
  std::optional<Installed> installed_;
};

TEST_F(Mount8, MountsAnImageByType) {
  const auto image = make_image();
  const auto mounted = run({"mount", "-t", "fuse4fs", "-o", log_option(), image, mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_EQ(mounted.output, "");  // as with ext4
  EXPECT_THAT(mount_line(), HasSubstr("fuseblk.fuse4fs"));
  EXPECT_THAT(mount_line(), HasSubstr("rw,relatime"));
  EXPECT_THAT(mount_line(), HasSubstr("default_permissions,allow_other"));
  unmount_and_check(image);
}

TEST_F(Mount8, MountsADeviceWithOptions) {
  const auto image = make_image();
  const auto made = run({"losetup", "--show", "-f", image});
  const auto device = made.output.substr(0, made.output.find('\n'));
  const auto mounted = run(
      {"mount", "-t", "fuse4fs", "-o", "nosuid,nodev,noexec,noatime," + log_option(), device, mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mount_line(), HasSubstr("nosuid,nodev,noexec,noatime"));
  unmount_and_check(image);
  // The device was the user's, and still is.
  EXPECT_EQ(loop_devices_of(image).size(), 1U);
  EXPECT_EQ(run({"losetup", "-d", device}).status, 0);
}

TEST_F(Mount8, BlocksMayBeSmallerThanTheSectorsOfTheDevice) {
  const auto image = make_image("64M", {"-b", "1024"});
  const auto made = run({"losetup", "--show", "--sector-size", "4096", "-f", image});
  ASSERT_EQ(made.status, 0) << made.output;
  const auto device = made.output.substr(0, made.output.find('\n'));
  const auto mounted = run({"mount", "-t", "fuse4fs", "-o", log_option(), device, mount_point()});
  EXPECT_EQ(mounted.status, 0) << mounted.output;
  write_file(mount_point() / "file", "text");
  unmount_and_check(image);
  EXPECT_EQ(run({"losetup", "-d", device}).status, 0);
}

TEST_F(Mount8, AnFstabLine) {
  const auto image = make_image();
  const Fstab fstab(scratch());
  fstab.write(image.string() + " " + mount_point().string() +
              " fuse4fs noauto,nofail,x-test,errors=remount-ro," + log_option() + " 0 2\n");
  const auto mounted = run({"mount", mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mount_line(), HasSubstr("fuseblk.fuse4fs"));
  EXPECT_EQ(run({"umount", mount_point()}).status, 0);
  expect_clean(image);
}

TEST_F(Mount8, ReadOnly) {
  const auto image = make_image();
  const auto mounted = run({"mount", "-t", "fuse4fs", "-r", "-o", log_option(), image, mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mount_line(), HasSubstr(" ro,"));
  unmount_and_check(image);
}

TEST_F(Mount8, AReadOnlyDeviceFallsBackInWords) {
  const auto image = make_image();
  const auto made = run({"losetup", "--show", "-r", "-f", image});
  const auto device = made.output.substr(0, made.output.find('\n'));
  const auto mounted = run({"mount", "-t", "fuse4fs", "-o", log_option(), device, mount_point()});
  EXPECT_EQ(mounted.status, 0) << mounted.output;
  EXPECT_THAT(mounted.output, HasSubstr("read-only"));
  EXPECT_THAT(mount_line(), HasSubstr(" ro,"));
  unmount_and_check(image);
  EXPECT_EQ(run({"losetup", "-d", device}).status, 0);
}

TEST_F(Mount8, RemountsReadOnlyAndBack) {
  const auto image = make_image();
  ASSERT_EQ(run({"mount", "-t", "fuse4fs", "-o", log_option(), image, mount_point()}).status, 0);
  write_file(mount_point() / "before", "x");
  auto remounted = run({"mount", "-o", "remount,ro", mount_point()});
  EXPECT_EQ(remounted.status, 0) << remounted.output;
  EXPECT_THAT(mount_line(), HasSubstr(" ro,"));
  EXPECT_EQ(::mkdir((mount_point() / "new").c_str(), 0700), -1);
  EXPECT_EQ(errno, EROFS);
  remounted = run({"mount", "-o", "remount,rw", mount_point()});
  EXPECT_EQ(remounted.status, 0) << remounted.output;
  EXPECT_EQ(::mkdir((mount_point() / "new").c_str(), 0700), 0);
  unmount_and_check(image);
}

TEST_F(Mount8, AFakeMountMountsNothing) {
  const auto image = make_image();
  const auto faked = run({"mount", "-f", "-t", "fuse4fs", image, mount_point()});
  EXPECT_EQ(faked.status, 0) << faked.output;
  EXPECT_THAT(mount_line(), IsEmpty());
  EXPECT_THAT(loop_devices_of(image), IsEmpty());
}

TEST_F(Mount8, HelpAndVersion) {
  const auto help = run({"mount.fuse4fs", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.output, HasSubstr("--abort"));
  const auto version = run({"mount.fuse4fs", "--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.output, HasSubstr(FUSE4FS_VERSION));
}

TEST_F(Mount8, AHungMountCanBeAborted) {
  const auto image = make_image();
  ASSERT_EQ(run({"mount", "-t", "fuse4fs", "-o", log_option(), image, mount_point()}).status, 0);
  const auto pid = server();
  ASSERT_TRUE(pid);
  ASSERT_EQ(::kill(*pid, SIGSTOP), 0);
  const auto aborted = run({"timeout", "20", "mount.fuse4fs", "--abort", mount_point()});
  EXPECT_EQ(aborted.status, 0) << aborted.output;
  EXPECT_THAT(mount_line(), IsEmpty());
  // Nothing of it is left: not the stopped server, not its loop device.
  EXPECT_TRUE(server_ends());
  EXPECT_THAT(loop_devices_of(image), IsEmpty());
}

TEST_F(Mount8, AKilledServerIsACleanErrorAndTheVolumeSaysSo) {
  const auto image = make_image();
  ASSERT_EQ(run({"mount", "-t", "fuse4fs", "-o", log_option(), image, mount_point()}).status, 0);
  const auto pid = server();
  ASSERT_TRUE(pid);
  ASSERT_EQ(::kill(*pid, SIGKILL), 0);
  ASSERT_TRUE(server_ends());
  // EIO and ECONNABORTED while the kernel takes the dying process apart, then ENOTCONN for good.
  do {
    EXPECT_EQ(::mkdir((mount_point() / "new").c_str(), 0700), -1);
  } while (errno == EIO || errno == ECONNABORTED);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(run({"umount", mount_point()}).status, 0);
  EXPECT_THAT(run({"dumpe2fs", "-h", image}).output, HasSubstr("not clean"));
}

TEST_F(Mount8, ASignalStopsTheServerInOrder) {
  const auto image = make_image();
  ASSERT_EQ(run({"mount", "-t", "fuse4fs", "-o", log_option(), image, mount_point()}).status, 0);
  write_file(mount_point() / "file", "text");
  ASSERT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  const auto pid = server();
  ASSERT_TRUE(pid);
  ASSERT_EQ(::kill(*pid, SIGTERM), 0);
  ASSERT_TRUE(server_ends());
  EXPECT_EQ(run({"umount", mount_point()}).status, 0);
  expect_clean(image);
}

}  // namespace
}  // namespace fuse4fs::test
