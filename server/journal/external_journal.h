// SPDX-License-Identifier: GPL-2.0-or-later
// A journal on a device of its own (mke2fs -O journal_dev): found, told from others by its UUID, and read.
//
// Such a device has an ext4 superblock at byte 1024 that says no more than "a journal", its length and its
// UUID, and the journal's superblock in the block after that one. Errors: kCorrupted where the device is not
// the journal that the volume names; the device's own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/journal/log_source.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal {

// Log block N is block N of the device.
class ExternalLog final : public LogSource {
 public:
  // Reads and judges the device's ext4 superblock: is this the journal `journal_uuid` (the volume's
  // s_journal_uuid) of a volume with blocks of `block_size` bytes? `device` must outlive the log.
  static Outcome<ExternalLog> open(const cache::BlockDevice& device, std::uint32_t block_size,
                                   const Uuid& journal_uuid);

  [[nodiscard]] std::uint32_t block_size() const override { return block_size_; }
  [[nodiscard]] std::uint32_t blocks() const override { return blocks_; }
  // Blocks of 1 KiB: the ext4 superblock is block 1. Larger ones: it is inside block 0.
  [[nodiscard]] std::uint32_t superblock() const override { return block_size_ == 1024 ? 2 : 1; }
  Result<void> read(std::uint32_t first, std::span<std::byte> into) override;

 private:
  ExternalLog(const cache::BlockDevice& device, std::uint32_t block_size, std::uint32_t blocks)
      : device_(&device), block_size_(block_size), blocks_(blocks) {}

  const cache::BlockDevice* device_;
  std::uint32_t block_size_;
  std::uint32_t blocks_;
};

}  // namespace fuse4fs::journal
