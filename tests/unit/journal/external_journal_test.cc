// SPDX-License-Identifier: GPL-2.0-or-later
// Is this device the journal that the volume names? Devices made by hand: an ext4 superblock, and a log
// behind it.
#include "server/journal/external_journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <string_view>

#include "log_builder.h"
#include "replayed.h"
#include "server/journal/checksum.h"

namespace fuse4fs::journal::test {
namespace {

void store_little(std::span<std::byte> bytes, std::size_t offset, std::uint32_t value) {
  for (std::size_t index = 0; index < 4; ++index, value >>= 8)
    bytes[offset + index] = static_cast<std::byte>(value & 0xFF);
}

constexpr Uuid kUuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

struct Device {
  LogBuilder log;
  std::vector<std::byte> bytes;  // the whole device
  [[nodiscard]] std::span<std::byte> ext4() { return std::span(bytes).subspan(1024, 1024); }
  void seal() { store_little(ext4(), 0x3FC, crc32c(~0U, ext4().first(0x3FC))); }
};

Device journal_device(std::uint32_t block_size) {
  const std::uint32_t own = block_size == 1024 ? 2 : 1;
  Device device{
      .log = LogBuilder(LogShape{
          .block_size = block_size, .own_block = own, .first = own + 1, .start = own + 1, .users = 1}),
      .bytes = {}};
  device.log.add({.copies = {{.home = 77, .content = 5}}});
  device.bytes = device.log.image();
  auto ext4 = device.ext4();
  store_little(ext4, 0x4, device.log.blocks());
  store_little(ext4, 0x18, block_size == 1024 ? 0 : 2);
  store_little(ext4, 0x38, 0xEF53);
  store_little(ext4, 0x60, 0x8);
  store_little(ext4, 0x64, 0x400);
  std::ranges::transform(kUuid, ext4.subspan(0x68).begin(),
                         [](std::uint8_t byte) { return std::byte{byte}; });
  device.seal();
  return device;
}

Outcome<cache::BlockDevice> in_memory(const std::vector<std::byte>& bytes) {
  UniqueFd fd(::memfd_create("journal", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return cache::BlockDevice::adopt(std::move(fd), UniqueFd(), cache::Access::kReadOnly);
}

TEST(ExternalJournal, IsReadByTheBlocksOfItsDevice) {
  for (const std::uint32_t block_size : {1024U, 4096U}) {
    SCOPED_TRACE(block_size);
    const Device device = journal_device(block_size);
    const auto opened = in_memory(device.bytes);
    ASSERT_TRUE(opened);
    auto log = ExternalLog::open(*opened, block_size, kUuid);
    ASSERT_TRUE(log) << log.error().message;
    EXPECT_EQ(log->blocks(), 1100U);
    const auto superblock =
        read_superblock(*log, {.block_size = block_size, .external = true, .volume_uuid = {}});
    ASSERT_TRUE(superblock) << superblock.error().message;
    const auto plan = plan_recovery(*log, *superblock, any_home());
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(carry_out(*log, *plan), (Contents{{77, content_block(block_size, 5)}}));
    std::vector<std::byte> block(block_size);
    EXPECT_EQ(log->read(1100, block).error(), Errno(EINVAL));
  }
}

TEST(ExternalJournal, IsToldFromOthers) {
  struct Row {
    std::string_view words;
    int error;
    std::function<void(Device&)> change;
  };
  const std::vector<Row> rows = {
      {"UUIDs differ", EUCLEAN, [](Device& device) { device.ext4()[0x68 + 15] = std::byte{99}; }},
      {"no external journal", EUCLEAN, [](Device& device) { store_little(device.ext4(), 0x60, 0x2); }},
      {"no external journal", EUCLEAN, [](Device& device) { store_little(device.ext4(), 0x38, 0xEF54); }},
      {"another size", EUCLEAN, [](Device& device) { store_little(device.ext4(), 0x18, 2); }},
      {"another size", EUCLEAN, [](Device& device) { store_little(device.ext4(), 0x18, 0xFFFFFFFF); }},
      {"1101 blocks; its device has room for 1100", EUCLEAN,
       [](Device& device) { store_little(device.ext4(), 0x4, 1101); }},
      {"4294968396 blocks", EUCLEAN,
       [](Device& device) {
         store_little(device.ext4(), 0x60, 0x88);
         store_little(device.ext4(), 0x150, 1);
       }},
      {"no room", EUCLEAN, [](Device& device) { store_little(device.ext4(), 0x4, 2); }},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.words);
    Device device = journal_device(1024);
    row.change(device);
    device.seal();
    const auto opened = in_memory(device.bytes);
    ASSERT_TRUE(opened);
    const auto log = ExternalLog::open(*opened, 1024, kUuid);
    ASSERT_FALSE(log);
    EXPECT_EQ(log.error().error, Errno(row.error));
    EXPECT_THAT(log.error().message, testing::HasSubstr(std::string(row.words)));
  }
  Device device = journal_device(1024);
  device.ext4()[0x70] ^= std::byte{1};
  const auto opened = in_memory(device.bytes);
  EXPECT_EQ(ExternalLog::open(*opened, 1024, kUuid).error().error, Errno(EBADMSG));
}

}  // namespace
}  // namespace fuse4fs::journal::test
