// SPDX-License-Identifier: GPL-2.0-or-later
// What the server learns only when the kernel writes its pages back: blocks, missing room, and that a file
// was locked in the meantime.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;

class WrittenBack : public MountTest {
 protected:
  void mount_fresh(const std::string& size = "64M") {
    // Linux 6.19 and later lets only whole pages wait.
    image_ = make_image(size, {"-b", "4096"});
    mount_or_fail(image_);
  }
  [[nodiscard]] UniqueFd open_file() const {
    return UniqueFd(::open(path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  }
  [[nodiscard]] fs::path path() const { return mount_point() / "file"; }
  [[nodiscard]] blkcnt_t sectors() const {
    struct stat status{};
    EXPECT_EQ(::stat(path().c_str(), &status), 0);
    return status.st_blocks;
  }
  static void put(const UniqueFd& file, const std::string& bytes, off_t offset) {
    ASSERT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size()));
  }
  static void set_flags(const UniqueFd& file, int flags) {
    ASSERT_EQ(::ioctl(file.get(), FS_IOC_SETFLAGS, &flags), 0);
  }
  void expect_after_remount(const std::string& contents) {
    unmount_and_check(image_);
    mount_or_fail(image_);
    EXPECT_EQ(contents_of(path()), contents);
  }

  fs::path image_;
};

// tar --sparse reads nothing of a file without blocks.
TEST_F(WrittenBack, TheFirstBlocksOfAnOpenFileAreSeenOnceItIsSynced) {
  mount_fresh();
  const std::vector<std::pair<const char*, std::function<int(int)>>> ways = {
      {"fsync", ::fsync},
      {"fdatasync", ::fdatasync},
      {"syncfs", ::syncfs},
      {"sync_file_range",
       [](int fd) {
         return ::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
       }},
  };
  for (const auto& [name, way] : ways) {
    SCOPED_TRACE(name);
    fs::remove(path());
    const UniqueFd file = open_file();
    EXPECT_EQ(sectors(), 0);
    put(file, std::string(8192, 'x'), 0);
    ASSERT_EQ(way(file.get()), 0);
    EXPECT_EQ(sectors(), 16);
  }
  unmount_and_check(image_);
}

TEST_F(WrittenBack, MoreBlocksAreSeenSecondsLater) {
  mount_fresh();
  const UniqueFd file = open_file();
  for (int i = 0; i < 4; ++i) {
    put(file, std::string(4096, 'x'), i * 4096);
    ASSERT_EQ(::fsync(file.get()), 0);
  }
  // Twice the interval of write-back, and more.
  for (int tenths = 0; tenths < 150 && sectors() != 32; ++tenths) ::usleep(100'000);
  EXPECT_EQ(sectors(), 32);
}

TEST_F(WrittenBack, AnEndlessWriterIsToldThatThereIsNoRoom) {
  mount_fresh("24M");
  const UniqueFd file = open_file();
  const std::string piece(1 << 20, 'x');
  // Far more than there is; the pages of so much would still fit into memory.
  constexpr off_t kMuch = off_t{4} << 30;
  off_t written = 0;
  ssize_t last = 0;
  while (written < kMuch && (last = ::write(file.get(), piece.data(), piece.size())) > 0) written += last;
  EXPECT_EQ(last, -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_LT(written, kMuch);
  // Nobody else is told: not a reader, and not who asks for the file.
  EXPECT_EQ(::fsync(file.get()), -1);
  ::usleep(2'500'000);
  std::string some(4096, '?');
  EXPECT_EQ(::pread(file.get(), some.data(), some.size(), 0), 4096);
  EXPECT_EQ(some, piece.substr(0, 4096));
  EXPECT_THAT(log(), ::testing::HasSubstr("cannot be kept: No space left on device"));
  fs::remove(path());
}

TEST_F(WrittenBack, WhatWasWrittenBeforeTheFileBecameImmutableOrAppendOnlyStays) {
  for (const int flag : {FS_IMMUTABLE_FL, FS_APPEND_FL}) {
    SCOPED_TRACE(flag);
    mount_fresh();
    std::string contents(100'000, 'a');
    {
      const UniqueFd file = open_file();
      put(file, contents, 0);
      ASSERT_EQ(::fsync(file.get()), 0);
      contents.replace(5'000, 10'000, 10'000, 'b');
      contents.append(3'000, 'c');
      put(file, contents.substr(5'000, 10'000), 5'000);
      put(file, contents.substr(100'000), 100'000);
      set_flags(file, flag | FS_EXTENT_FL);
      EXPECT_EQ(::fsync(file.get()), 0);
    }
    expect_after_remount(contents);
    set_flags(UniqueFd(::open(path().c_str(), O_RDONLY | O_CLOEXEC)), FS_EXTENT_FL);
    unmount_and_check(image_);
  }
}

TEST_F(WrittenBack, TheSameByFsxattr) {
  mount_fresh();
  const std::string contents(10'000, 'a');
  {
    const UniqueFd file = open_file();
    put(file, contents, 0);
    fsxattr attributes{};
    ASSERT_EQ(::ioctl(file.get(), FS_IOC_FSGETXATTR, &attributes), 0);
    attributes.fsx_xflags |= FS_XFLAG_IMMUTABLE;
    ASSERT_EQ(::ioctl(file.get(), FS_IOC_FSSETXATTR, &attributes), 0);
    EXPECT_EQ(::fsync(file.get()), 0);
  }
  expect_after_remount(contents);
  set_flags(UniqueFd(::open(path().c_str(), O_RDONLY | O_CLOEXEC)), FS_EXTENT_FL);
}

TEST_F(WrittenBack, AnAppendBeforeAGrowingFallocateStays) {
  mount_fresh();
  set_flags(open_file(), FS_APPEND_FL | FS_EXTENT_FL);
  {
    const UniqueFd file(::open(path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    ASSERT_EQ(::write(file.get(), "kept", 4), 4);
    ASSERT_EQ(::fallocate(file.get(), 0, 0, 50'000), 0);
    EXPECT_EQ(::fsync(file.get()), 0);
  }
  expect_after_remount("kept" + std::string(50'000 - 4, '\0'));
  set_flags(UniqueFd(::open(path().c_str(), O_RDONLY | O_CLOEXEC)), FS_EXTENT_FL);
}

}  // namespace
}  // namespace fuse4fs::test
