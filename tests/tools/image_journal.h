// SPDX-License-Identifier: GPL-2.0-or-later
// The journal of an image or device, found through libext2fs: for tools and tests, not for the server.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/journal/log_source.h"
#include "server/journal/recovery.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal::tools {

// An internal journal: the blocks of its inode, in their order. Or, where `journal_path` is given, an
// external one.
class ImageJournal {
 public:
  // `path` is the volume. Read-only.
  static Outcome<std::unique_ptr<ImageJournal>> open(const std::string& path,
                                                     const std::string& journal_path = {});

  [[nodiscard]] LogSource& log() { return *log_; }
  [[nodiscard]] const JournalExpectation& expectation() const { return expectation_; }
  [[nodiscard]] std::uint64_t volume_blocks() const { return volume_blocks_; }
  // Where log block `number` lies: the byte, in the volume or in the journal's device.
  [[nodiscard]] std::uint64_t offset(std::uint32_t number) const;
  // The words for a block that a log may not touch; nothing where it may (RecoveryOptions::object).
  [[nodiscard]] std::optional<std::string> object(std::uint64_t home, HomeUse use) const;

 private:
  ImageJournal() = default;

  std::unique_ptr<cache::BlockDevice> device_;
  std::unique_ptr<LogSource> log_;
  JournalExpectation expectation_;
  std::uint64_t volume_blocks_ = 0;
  std::vector<std::uint64_t> map_;  // internal: log block to block of the volume
  std::vector<std::uint64_t> sorted_;
};

}  // namespace fuse4fs::journal::tools
