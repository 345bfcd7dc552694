// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/buffer_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kBlock = 4096;

class Cache : public testing::Test {
 protected:
  Cache() : file_(::memfd_create("device", MFD_CLOEXEC)) { EXPECT_EQ(::ftruncate(file_, 1024 * kBlock), 0); }
  ~Cache() override { ::close(file_); }

  BlockDevice device(Access access = Access::kReadWrite) {
    device_fd_ = ::fcntl(file_, F_DUPFD_CLOEXEC, 0);
    return std::move(*BlockDevice::adopt(UniqueFd(device_fd_), UniqueFd(), access));
  }
  std::string on_device(std::uint64_t offset, std::size_t length) {
    std::string bytes(length, '?');
    EXPECT_EQ(::pread(file_, bytes.data(), length, static_cast<off_t>(offset)), static_cast<ssize_t>(length));
    return bytes;
  }
  static std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }
  static std::string read(BufferCache& cache, std::uint64_t offset, std::size_t length) {
    std::string text(length, '?');
    EXPECT_TRUE(cache.read(offset, std::as_writable_bytes(std::span(text))));
    return text;
  }

  int file_;
  int device_fd_ = -1;  // the device owns it
};

TEST_F(Cache, WritesLate) {
  const auto disk = device();
  BufferCache cache(disk, kBlock);
  const std::string text(3 * kBlock, 'a');
  ASSERT_TRUE(cache.write(10 * kBlock - 100, bytes(text)));
  EXPECT_EQ(read(cache, 10 * kBlock - 101, 3), std::string("\0aa", 3));
  EXPECT_EQ(on_device(10 * kBlock, 1), std::string(1, '\0'));
  EXPECT_EQ(cache.dirty_blocks(), 4U);
  ASSERT_TRUE(cache.flush());
  EXPECT_EQ(cache.dirty_blocks(), 0U);
  EXPECT_EQ(on_device(10 * kBlock - 100, text.size()), text);
}

TEST_F(Cache, TheSameBytesAreNotDirty) {
  const auto disk = device();
  BufferCache cache(disk, kBlock);
  (void)read(cache, 0, kBlock);
  ASSERT_TRUE(cache.write(0, bytes(std::string(kBlock, '\0'))));
  ASSERT_TRUE(cache.write(5 * kBlock + 7, bytes(std::string(9, '\0'))));
  EXPECT_EQ(cache.dirty_blocks(), 0U);
}

TEST_F(Cache, ForgottenBlocksAreNotWritten) {
  const auto disk = device();
  BufferCache cache(disk, kBlock);
  ASSERT_TRUE(cache.write(0, bytes(std::string(8 * kBlock, 'm'))));
  cache.forget(2, 3);
  cache.forget(6, 1'000'000);
  ASSERT_EQ(::pwrite(file_, "data", 4, 3 * kBlock), 4);
  ASSERT_TRUE(cache.flush());
  EXPECT_EQ(on_device(3 * kBlock, 4), "data");
  EXPECT_EQ(on_device(1 * kBlock, 1), "m");
  EXPECT_EQ(on_device(5 * kBlock, 1), "m");
  EXPECT_EQ(on_device(7 * kBlock, 1), std::string(1, '\0'));
  // And what was there is not remembered.
  EXPECT_EQ(read(cache, 3 * kBlock, 4), "data");
}

TEST_F(Cache, StaysWithinItsLimit) {
  const auto disk = device();
  BufferCache cache(disk, kBlock, {.limit = 32 * kBlock});
  for (std::uint64_t block = 0; block < 500; ++block) {
    ASSERT_TRUE(cache.write(block * kBlock, bytes(std::string(kBlock, static_cast<char>(block)))));
    EXPECT_LE(cache.cached_blocks(), 32U);
  }
  ASSERT_TRUE(cache.flush());
  for (std::uint64_t block = 0; block < 500; ++block)
    EXPECT_EQ(read(cache, block * kBlock + 17, 1)[0], static_cast<char>(block));
}

TEST_F(Cache, AFailedWriteIsTriedAgain) {
  const auto disk = device();
  BufferCache cache(disk, kBlock);
  ASSERT_TRUE(cache.write(3 * kBlock, bytes("kept")));
  ASSERT_TRUE(cache.write(900 * kBlock, bytes("far")));
  // From now on writes to the descriptor fail, until it is writable again.
  const int hidden = ::fcntl(device_fd_, F_DUPFD_CLOEXEC, 0);
  const int reading = ::open("/dev/zero", O_RDONLY);
  ASSERT_EQ(::dup2(reading, device_fd_), device_fd_);
  EXPECT_EQ(cache.flush().error().error, Errno(EBADF));
  EXPECT_EQ(cache.flush().error().first, 3U);
  EXPECT_EQ(cache.dirty_blocks(), 2U);
  EXPECT_EQ(read(cache, 3 * kBlock, 4), "kept");
  ASSERT_EQ(::dup2(hidden, device_fd_), device_fd_);
  ::close(hidden);
  ::close(reading);
  ASSERT_TRUE(cache.flush());
  EXPECT_EQ(on_device(3 * kBlock, 4), "kept");
  EXPECT_EQ(on_device(900 * kBlock, 3), "far");
}

TEST_F(Cache, ReadOnlyRefuses) {
  const auto disk = device(Access::kReadOnly);
  BufferCache cache(disk, kBlock);
  EXPECT_EQ(cache.write(0, bytes("x")).error(), Errno(EROFS));
}

TEST_F(Cache, TheEndIsTheEnd) {
  const auto disk = device();
  BufferCache cache(disk, kBlock);
  std::byte one{};
  EXPECT_EQ(cache.read(1024 * kBlock, std::span(&one, 1)).error(), Errno(EIO));
  EXPECT_EQ(cache.write(1024 * kBlock, std::span(&one, 1)).error(), Errno(EIO));
  EXPECT_EQ(cache.read(UINT64_MAX - 5, std::span(&one, 1)).error(), Errno(EIO));
  EXPECT_EQ(disk.read(1024 * kBlock - 1, std::span(&one, 1)).has_value(), true);
  EXPECT_EQ(disk.write_direct(UINT64_MAX, std::span<const std::byte>(&one, 1)).error(), Errno(EIO));
}

TEST(Device, IsJudged) {
  EXPECT_EQ(
      BlockDevice::adopt(UniqueFd(::open("/dev/null", O_RDWR)), UniqueFd(), Access::kReadWrite).error().error,
      Errno(ENOTBLK));
  UniqueFd file(::memfd_create("device", MFD_CLOEXEC));
  UniqueFd other(::memfd_create("other", MFD_CLOEXEC));
  EXPECT_FALSE(BlockDevice::adopt(std::move(file), std::move(other), Access::kReadWrite));
  char name[] = "/tmp/device-XXXXXX";
  UniqueFd made(::mkstemp(name));
  UniqueFd reading(::open(name, O_RDONLY));
  ::unlink(name);
  EXPECT_EQ(BlockDevice::adopt(std::move(reading), UniqueFd(), Access::kReadWrite).error().error,
            Errno(EACCES));
}

}  // namespace
}  // namespace fuse4fs::cache
