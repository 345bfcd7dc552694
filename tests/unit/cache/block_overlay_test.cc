// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_overlay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "server/cache/block_device.h"

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kBlock = 1024;
constexpr std::size_t kBlocks = 64;
constexpr BlockOverlay::Prefix kPrefix{std::byte{0xC0}, std::byte{0x3B}, std::byte{0x39}, std::byte{0x98}};

using Bytes = std::vector<std::byte>;

// A file of random bytes, opened for reading only, both ways.
class Device {
 public:
  explicit Device(unsigned seed) {
    std::mt19937 random(seed);
    content.resize(kBlock * kBlocks);
    for (auto& byte : content) byte = static_cast<std::byte>(random());
    char name[] = "/tmp/overlay-test-XXXXXX";
    const UniqueFd file(::mkstemp(name));
    EXPECT_EQ(::write(file.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
    device_.emplace(*BlockDevice::adopt(UniqueFd(::open(name, O_RDONLY | O_CLOEXEC)),
                                        UniqueFd(::open(name, O_RDONLY | O_CLOEXEC | O_DIRECT)),
                                        Access::kReadOnly));
    ::unlink(name);
  }
  BlockDevice& operator*() { return *device_; }
  BlockDevice* operator->() { return &*device_; }
  BlockDevice take() { return std::move(*device_); }
  Bytes content;

 private:
  std::optional<BlockDevice> device_;
};

// Every way to read, at many places, shows `expected`.
void expect_reads(const BlockDevice& device, const Bytes& expected) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    const std::size_t offset = i == 0 ? 0 : random() % expected.size();
    const std::size_t length = i == 0 ? expected.size() : random() % (expected.size() - offset);
    Bytes found(length);
    ASSERT_TRUE(device.read(offset, found));
    ASSERT_TRUE(std::ranges::equal(found, std::span(expected).subspan(offset, length)))
        << offset << "+" << length;
  }
  auto* const memory = static_cast<std::byte*>(std::aligned_alloc(4096, expected.size()));
  for (std::size_t offset = 0; offset < expected.size(); offset += 4096) {
    for (std::size_t length = 4096; offset + length <= expected.size(); length *= 2) {
      const std::span into(memory, length);
      ASSERT_TRUE(device.read_direct(offset, into));
      ASSERT_TRUE(std::ranges::equal(into, std::span(expected).subspan(offset, length))) << offset;
      ASSERT_TRUE(device.read_past_cache(offset, into));
      ASSERT_TRUE(std::ranges::equal(into, std::span(expected).subspan(offset, length))) << offset;
    }
  }
  std::free(memory);
}

void put(Bytes& content, std::size_t block, std::span<const std::byte> bytes) {
  std::ranges::copy(bytes, content.begin() + static_cast<std::ptrdiff_t>(block * kBlock));
}
std::span<const std::byte> block_of(const Bytes& content, std::size_t block) {
  return std::span(content).subspan(block * kBlock, kBlock);
}

TEST(BlockOverlay, ShowsRedirectedAndWrittenBlocksHoweverTheyAreRead) {
  Device device(1);
  Bytes expected = device.content;
  put(expected, 0, block_of(device.content, 40));
  put(expected, 5, block_of(device.content, 41));
  put(expected, 5, kPrefix);
  put(expected, 6, block_of(device.content, 40));
  put(expected, 63, block_of(device.content, 2));
  device->lay_over(std::make_unique<BlockOverlay>(
      BlockOverlay::Options{.block_size = kBlock,
                            .redirects = {{0, 40, 0}, {5, 41, 1}, {6, 40, 0}, {63, 2, 0}},
                            .prefix = kPrefix}));
  expect_reads(*device, expected);

  // Written over a redirected one, over one of the device's own, in parts and across their border.
  EXPECT_EQ(device->access(), Access::kReadWrite);
  Bytes fresh(3 * kBlock, std::byte{0x77});
  const std::size_t at = 4 * kBlock + 100;
  ASSERT_TRUE(device->write(at, fresh));
  std::ranges::copy(fresh, expected.begin() + static_cast<std::ptrdiff_t>(at));
  expect_reads(*device, expected);
  EXPECT_EQ(device->overlay()->written_blocks(), 4U);
  EXPECT_TRUE(device->flush());

  device->freeze_overlay();
  EXPECT_EQ(device->access(), Access::kReadOnly);
  EXPECT_EQ(device->write(0, fresh).error(), Errno(EROFS));
  EXPECT_EQ(device->write_direct(0, fresh).error(), Errno(EROFS));
  EXPECT_EQ(device->write_past_cache(0, fresh).error(), Errno(EROFS));
  EXPECT_EQ(device->discard(0, kBlock).error(), Errno(EROFS));
  expect_reads(*device, expected);
}

TEST(BlockOverlay, RedirectsToAnotherDevice) {
  Device device(1);
  Device log(2);
  Bytes expected = device.content;
  put(expected, 9, block_of(log.content, 3));
  device->lay_over(std::make_unique<BlockOverlay>(
      BlockOverlay::Options{.block_size = kBlock,
                            .redirects = {{9, 3, 0}},
                            .source = std::make_shared<const BlockDevice>(log.take())}));
  expect_reads(*device, expected);
}

TEST(BlockOverlay, MemoryHasALimit) {
  Device device(1);
  device->lay_over(std::make_unique<BlockOverlay>(
      BlockOverlay::Options{.block_size = kBlock, .most_written = 2 * kBlock}));
  const Bytes two(2 * kBlock);
  EXPECT_TRUE(device->write(0, two));
  EXPECT_TRUE(device->write(0, two));
  EXPECT_EQ(device->write(2 * kBlock, std::span(two).first(1)).error(), Errno(ENOMEM));
  EXPECT_EQ(device->write(kBlock * kBlocks, two).error(), Errno(EIO));
}

}  // namespace
}  // namespace fuse4fs::cache
