// SPDX-License-Identifier: GPL-2.0-or-later
// A device that fails: an image on a file system that runs full, so that its loop device answers EIO.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class DeviceError : public MountTest {
 protected:
  void SetUp() override {
    fs::create_directory(scratch() / "small");
    ASSERT_EQ(::mount("tmpfs", (scratch() / "small").c_str(), "tmpfs", 0, "size=24m"), 0);
    image_ = make_image("200M", {"-E", "lazy_itable_init=1"}, "small/image");
  }
  void TearDown() override { ::umount2((scratch() / "small").c_str(), MNT_DETACH); }

  void fill_the_backing_store() {
    const auto filled = run({"dd", "if=/dev/zero", "of=" + (scratch() / "small/filler").string(), "bs=64k"});
    ASSERT_THAT(filled.output, HasSubstr("No space left"));
  }
  // Enough new blocks that some of them have no place.
  void make_directories() {
    for (int i = 0; i < 300; ++i) ::mkdir((mount_point() / ("d" + std::to_string(i))).c_str(), 0700);
  }
  [[nodiscard]] int sync() const {
    const UniqueFd directory(::open(mount_point().c_str(), O_RDONLY | O_DIRECTORY));
    return ::syncfs(directory.get()) == 0 ? 0 : errno;
  }
  [[nodiscard]] std::string superblock() const { return run({"dumpe2fs", "-h", image_}).output; }

  fs::path image_;
};

TEST_F(DeviceError, IsNeverForgotten) {
  mount_or_fail(image_, "errors=remount-ro");
  fill_the_backing_store();
  make_directories();
  EXPECT_EQ(sync(), EIO);
  EXPECT_EQ(::mkdir((mount_point() / "later").c_str(), 0700), -1);
  EXPECT_EQ(errno, EROFS);
  // The device works again, but what was lost is lost: the volume must not be called clean.
  fs::remove(scratch() / "small/filler");
  EXPECT_NE(sync(), 0);
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());  // its last words come after umount has returned
  EXPECT_THAT(log(), HasSubstr("e2fsck"));
  EXPECT_THAT(superblock(), ::testing::ContainsRegex("Filesystem state: +not clean"));
}

TEST_F(DeviceError, AtTheLastFlushIsInTheLog) {
  mount_or_fail(image_);
  fill_the_backing_store();
  make_directories();
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(server_ends());
  EXPECT_THAT(log(), HasSubstr("not everything could be written"));
  EXPECT_THAT(superblock(), Not(::testing::ContainsRegex("Filesystem state: +clean\n")));
}

}  // namespace
}  // namespace fuse4fs::test
