// SPDX-License-Identifier: GPL-2.0-or-later
// Files inside of their inodes, as the kernel's ext4 makes them.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

class InlineData : public MountTest {
 protected:
  // A directory and names in it, and its size after each of them.
  std::vector<off_t> fill(const char* directory, int names) {
    const auto path = mount_point() / directory;
    EXPECT_EQ(::mkdir(path.c_str(), 0755), 0);
    std::vector<off_t> sizes;
    for (int i = 0; i < names; ++i) {
      struct stat status{};
      EXPECT_EQ(::stat(path.c_str(), &status), 0);
      sizes.push_back(status.st_size);
      EXPECT_EQ(::mkdir((path / fmt::format("name {}", i)).c_str(), 0755), 0);
    }
    return sizes;
  }
  std::set<std::string> list(const char* directory) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(mount_point() / directory))
      names.insert(entry.path().filename());
    return names;
  }
};

TEST_F(InlineData, NewDirectoriesAreInsideOfTheirInodesAsTheKernels) {
  constexpr int kNames = 20;
  for (const char* const size : {"256", "512"}) {
    SCOPED_TRACE(size);
    const auto image = make_image("64M", {"-O", "inline_data", "-I", size}, size);
    kernel_mount(image);
    const auto kernels = fill("kernel's", kNames);
    EXPECT_EQ(kernels.front(), 60);
    (void)fill("kernel's half", 5);
    ASSERT_EQ(unmount().status, 0);
    mount_or_fail(image);
    EXPECT_EQ(fill("ours", kNames), kernels);
    (void)fill("our half", 5);
    EXPECT_EQ(::mkdir((mount_point() / "kernel's half/ours").c_str(), 0755), 0);
    EXPECT_EQ(list("kernel's half").size(), 6U);
    unmount_and_check(image);
    EXPECT_THAT(run({"debugfs", "-R", "stat \"our half\"", image}).output,
                ::testing::HasSubstr("Flags: 0x10000000"));
    kernel_mount(image);
    EXPECT_EQ(list("ours"), list("kernel's"));
    EXPECT_EQ(::mkdir((mount_point() / "our half/kernel's").c_str(), 0755), 0);
    EXPECT_EQ(::rmdir((mount_point() / "our half/name 0").c_str()), 0);
    EXPECT_EQ(list("our half"), (std::set<std::string>{"name 1", "name 2", "name 3", "name 4", "kernel's"}));
    EXPECT_EQ(list("our half/name 4").size(), 0U);
    ASSERT_EQ(unmount().status, 0);
    expect_clean(image);
  }
}

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
