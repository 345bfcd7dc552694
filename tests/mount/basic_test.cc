// SPDX-License-Identifier: GPL-2.0-or-later
// The first things anybody does with a mount.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fstream>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

using Basic = MountTest;

TEST_F(Basic, ServesAFreshImage) {
  const auto image = make_image();
  mount_or_fail(image);
  EXPECT_THAT(contents_of("/proc/self/mountinfo"), HasSubstr(" - fuseblk.fuse4fs /dev/loop"));
  EXPECT_TRUE(fs::is_directory(mount_point() / "lost+found"));
  write_file(mount_point() / "hello", "world\n");
  EXPECT_EQ(contents_of(mount_point() / "hello"), "world\n");
  unmount_and_check(image);
  EXPECT_TRUE(server_ends());
  EXPECT_THAT(loop_devices_of(image), ::testing::IsEmpty());
}

TEST_F(Basic, WhatWasWrittenIsThereForTheKernel) {
  const auto image = make_image();
  mount_or_fail(image);
  fs::create_directories(mount_point() / "a/b/c");
  std::string large(3'000'001, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 7 + i / 4096);
  write_file(mount_point() / "a/b/c/large", large);
  fs::create_symlink("a/b", mount_point() / "short");
  fs::create_symlink(std::string(200, 'x'), mount_point() / "long");
  fs::create_hard_link(mount_point() / "a/b/c/large", mount_point() / "second");
  fs::rename(mount_point() / "a/b", mount_point() / "moved");
  unmount_and_check(image);

  kernel_mount(image);
  EXPECT_EQ(contents_of(mount_point() / "moved/c/large"), large);
  EXPECT_EQ(fs::read_symlink(mount_point() / "short"), "a/b");
  EXPECT_EQ(fs::read_symlink(mount_point() / "long"), std::string(200, 'x'));
  EXPECT_EQ(fs::hard_link_count(mount_point() / "second"), 2U);
  EXPECT_FALSE(fs::exists(mount_point() / "a/b"));
  EXPECT_EQ(unmount().status, 0);
}

TEST_F(Basic, AnUnlinkedFileLivesWhileItIsOpen) {
  const auto image = make_image();
  mount_or_fail(image);
  {
    const UniqueFd file(::open((mount_point() / "gone").c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_TRUE(file);
    ASSERT_EQ(::pwrite(file.get(), "still here", 10, 0), 10);
    ASSERT_EQ(::unlink((mount_point() / "gone").c_str()), 0);
    EXPECT_FALSE(fs::exists(mount_point() / "gone"));
    ASSERT_EQ(::fsync(file.get()), 0);
    char bytes[10];
    ASSERT_EQ(::pread(file.get(), bytes, sizeof bytes, 0), 10);
    EXPECT_EQ(std::string_view(bytes, 10), "still here");
    struct stat status{};
    ASSERT_EQ(::fstat(file.get(), &status), 0);
    EXPECT_EQ(status.st_nlink, 0U);
  }
  unmount_and_check(image);
}

TEST_F(Basic, LongNamesAreRefused) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto longest = mount_point() / std::string(255, 'n');
  const auto too_long = mount_point() / std::string(256, 'n');
  const auto far_too_long = mount_point() / std::string(1100, 'n');
  write_file(longest, "x");
  for (const auto& name : {too_long, far_too_long}) {
    EXPECT_EQ(::open(name.c_str(), O_CREAT | O_RDWR, 0600), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_EQ(::mkdir(name.c_str(), 0700), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_EQ(::rename(longest.c_str(), name.c_str()), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_EQ(::link(longest.c_str(), name.c_str()), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_EQ(::symlink("x", name.c_str()), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
    EXPECT_EQ(::unlink(name.c_str()), -1);
    EXPECT_EQ(errno, ENAMETOOLONG);
  }
  unmount_and_check(image);
}

TEST_F(Basic, ReadOnlyMountsChangeNothing) {
  const auto image = make_image();
  const std::string before = contents_of(image);
  mount_or_fail(image, "ro");
  EXPECT_EQ(::mkdir((mount_point() / "new").c_str(), 0700), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(unmount().status, 0);
  EXPECT_TRUE(contents_of(image) == before);
}

TEST_F(Basic, StatfsIsThatOfTheKernel) {
  const auto image = make_image("96M");
  mount_or_fail(image);
  struct statvfs ours{};
  ASSERT_EQ(::statvfs(mount_point().c_str(), &ours), 0);
  unmount_and_check(image);
  kernel_mount(image);
  struct statvfs kernels{};
  ASSERT_EQ(::statvfs(mount_point().c_str(), &kernels), 0);
  EXPECT_EQ(ours.f_bsize, kernels.f_bsize);
  EXPECT_EQ(ours.f_blocks, kernels.f_blocks);
  EXPECT_EQ(ours.f_bfree, kernels.f_bfree);
  EXPECT_EQ(ours.f_bavail, kernels.f_bavail);
  EXPECT_EQ(ours.f_files, kernels.f_files);
  EXPECT_EQ(ours.f_ffree, kernels.f_ffree);
  EXPECT_EQ(ours.f_namemax, kernels.f_namemax);
}

TEST_F(Basic, FilesHaveTheBlockSizeOfTheVolume) {
  for (const std::string size : {"1024", "4096"}) {
    const auto image = make_image("64M", {"-b", size}, "image" + size);
    mount_or_fail(image);
    struct stat status{};
    ASSERT_EQ(::stat(mount_point().c_str(), &status), 0);
    EXPECT_EQ(status.st_blksize, std::stol(size));
    unmount_and_check(image);
  }
}

TEST_F(Basic, WritingClearsSetuid) {
  const auto image = make_image();
  mount_or_fail(image);
  const auto file = mount_point() / "program";
  write_file(file, "#!");
  ASSERT_EQ(::chmod(file.c_str(), 06777), 0);
  ASSERT_EQ(::chmod(mount_point().c_str(), 0777), 0);
  // By somebody without CAP_FSETID.
  EXPECT_EQ(run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c",
                 "echo more >>" + file.string()})
                .status,
            0);
  struct stat status{};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0777U);
  ASSERT_EQ(::chmod(file.c_str(), 06777), 0);
  EXPECT_EQ(
      run({"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "truncate", "-s0", file}).status,
      0);
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0777U);
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
