// SPDX-License-Identifier: GPL-2.0-or-later
// Files inside of their inodes, as the kernel's ext4 makes them.
#include <fcntl.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

class InlineData : public MountTest {};

// The kernel lengthens an empty file and puts its first bytes into the inode all the same.
TEST_F(InlineData, AFileThatIsLongerThanItsRoomIsReadAndWritten) {
  const auto image = make_image("64M", {"-O", "inline_data", "-I", "256"});
  constexpr off_t kSize = off_t{1} << 30;
  constexpr off_t kFar = 20'480;
  kernel_mount(image);
  {
    const UniqueFd file(::open((mount_point() / "long").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_TRUE(file);
    ASSERT_EQ(::ftruncate(file.get(), kSize), 0);
    ASSERT_EQ(::pwrite(file.get(), "in", 2, 3), 2);
  }
  ASSERT_EQ(run({"umount", mount_point()}).status, 0);
  EXPECT_THAT(run({"debugfs", "-R", "stat long", image}).output, ::testing::HasSubstr("Flags: 0x10000000"));
  mount_or_fail(image);
  {
    const UniqueFd file(::open((mount_point() / "long").c_str(), O_RDWR | O_CLOEXEC));
    std::string bytes(8, '?');
    ASSERT_EQ(::pread(file.get(), bytes.data(), bytes.size(), 0), 8);
    EXPECT_EQ(bytes, std::string("\0\0\0in\0\0\0", 8));
    ASSERT_EQ(::pwrite(file.get(), "out", 3, kFar), 3);
    EXPECT_EQ(::fsync(file.get()), 0);
  }
  unmount_and_check(image);
  kernel_mount(image, "loop,ro");
  {
    const UniqueFd file(::open((mount_point() / "long").c_str(), O_RDONLY | O_CLOEXEC));
    std::string bytes(kFar + 4, '?');
    ASSERT_EQ(::pread(file.get(), bytes.data(), bytes.size(), 0), kFar + 4);
    EXPECT_EQ(bytes.substr(0, 6), std::string("\0\0\0in\0", 6));
    EXPECT_EQ(bytes.substr(kFar), std::string("out\0", 4));
    EXPECT_EQ(::lseek(file.get(), 0, SEEK_END), kSize);
  }
  ASSERT_EQ(run({"umount", mount_point()}).status, 0);
}

}  // namespace
}  // namespace fuse4fs::test
