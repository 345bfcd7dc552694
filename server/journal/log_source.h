// SPDX-License-Identifier: GPL-2.0-or-later
// Where the blocks of a log are: the one seam between jbd2's format and the place that a log lies in.
//
// An internal journal lies in an inode of the volume: server/ext4 maps it (journal_map.h). An external one is
// a device of its own: external_journal.h. Log block numbers are jbd2's: in an inode they count from the
// inode's first block, where the superblock is; on a device of its own they are the device's block numbers,
// and the superblock is not at 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace fuse4fs::journal {

class LogSource {
 public:
  virtual ~LogSource() = default;

  [[nodiscard]] virtual std::uint32_t block_size() const = 0;
  // How many blocks are really there, whatever the superblock says. At least 1.
  [[nodiscard]] virtual std::uint32_t blocks() const = 0;
  // The block that the journal's superblock is in.
  [[nodiscard]] virtual std::uint32_t superblock() const = 0;

  // Fills `into`, a whole number of blocks, from log block `first` on. What is not inside blocks() is the
  // caller's mistake and EINVAL. Errors otherwise: the device's.
  virtual Result<void> read(std::uint32_t first, std::span<std::byte> into) = 0;
};

}  // namespace fuse4fs::journal
