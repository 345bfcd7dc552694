// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/external_journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "server/journal/checksum.h"

namespace fuse4fs::journal {
namespace {

// The fields of an ext4 superblock that a journal's device uses, little-endian. Facts: the kernel's
// Documentation/filesystems/ext4/super.rst.
namespace ext4_at {
constexpr std::size_t kBlocksLow = 0x4;
constexpr std::size_t kLogBlockSize = 0x18;
constexpr std::size_t kMagic = 0x38;
constexpr std::size_t kIncompatible = 0x60;
constexpr std::size_t kReadOnlyCompatible = 0x64;
constexpr std::size_t kUuid = 0x68;
constexpr std::size_t kBlocksHigh = 0x150;
constexpr std::size_t kChecksum = 0x3FC;
constexpr std::size_t kSize = 1024;
}  // namespace ext4_at
constexpr std::uint64_t kExt4Offset = 1024;
constexpr std::uint32_t kExt4Magic = 0xEF53;
constexpr std::uint32_t kJournalDevice = 0x8;
constexpr std::uint32_t k64Bit = 0x80;
constexpr std::uint32_t kMetadataChecksum = 0x400;

std::uint32_t little32(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (std::size_t byte = 4; byte-- > 0;)
    value = (value << 8) | std::to_integer<std::uint32_t>(bytes[offset + byte]);
  return value;
}

}  // namespace

Outcome<ExternalLog> ExternalLog::open(const cache::BlockDevice& device, std::uint32_t block_size,
                                       const Uuid& journal_uuid) {
  std::array<std::byte, ext4_at::kSize> raw;
  if (auto read = device.read(kExt4Offset, raw); !read)
    return fail(read.error(), "the superblock of the journal's device cannot be read");
  if ((little32(raw, ext4_at::kMagic) & 0xFFFF) != kExt4Magic ||
      (little32(raw, ext4_at::kIncompatible) & kJournalDevice) == 0)
    return fail(kCorrupted, "the journal's device holds no external journal");
  if ((little32(raw, ext4_at::kReadOnlyCompatible) & kMetadataChecksum) != 0 &&
      little32(raw, ext4_at::kChecksum) !=
          crc32c(~std::uint32_t{0}, std::span(raw).first(ext4_at::kChecksum)))
    return fail(Errno(EBADMSG), "the superblock of the journal's device has a wrong checksum");
  if (!std::ranges::equal(std::span(raw).subspan(ext4_at::kUuid, kUuidSize), journal_uuid, {},
                          [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); }))
    return fail(kCorrupted,
                "the journal's device is another journal than the volume names (their UUIDs differ)");
  const std::uint32_t log_size = little32(raw, ext4_at::kLogBlockSize);
  if (log_size > 6 || std::uint32_t{1024} << log_size != block_size)
    return fail(kCorrupted, "the external journal has blocks of another size than the volume");

  std::uint64_t blocks = little32(raw, ext4_at::kBlocksLow);
  if ((little32(raw, ext4_at::kIncompatible) & k64Bit) != 0)
    blocks |= std::uint64_t{little32(raw, ext4_at::kBlocksHigh)} << 32;
  if (blocks > device.size() / block_size)
    return fail(kCorrupted,
                fmt::format("the external journal is said to have {} blocks; its device has room for {}",
                            blocks, device.size() / block_size));
  // jbd2 counts in 32 bits.
  blocks = std::min<std::uint64_t>(blocks, std::numeric_limits<std::uint32_t>::max());
  ExternalLog log(device, block_size, static_cast<std::uint32_t>(blocks));
  if (log.blocks() <= log.superblock())
    return fail(kCorrupted, "the external journal has no room for a superblock");
  return log;
}

Result<void> ExternalLog::read(std::uint32_t first, std::span<std::byte> into) {
  if (first >= blocks_ || into.size() % block_size_ != 0 || into.size() / block_size_ > blocks_ - first)
    return fail(EINVAL);
  return device_->read(std::uint64_t{first} * block_size_, into);
}

}  // namespace fuse4fs::journal
