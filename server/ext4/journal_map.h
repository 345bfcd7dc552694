// SPDX-License-Identifier: GPL-2.0-or-later
// Where the blocks of an internal journal lie: the map of its inode, read before anything else of the volume
// is, since all else may have to be replayed first.
//
// So libext2fs has no part in it, and each number is checked here: every block is inside the volume, belongs
// to nothing else of the volume's own structures as far as the group descriptors can be believed before the
// replay, and is there once. What a wrong map could do: a log that is replayed onto itself.
//
// Facts: the kernel's Documentation/filesystems/ext4 (inodes, ifork, group_descr). Where the inode is
// unusable its copy in the superblock counts (s_jnl_blocks), as with e2fsck. Pure but for reads of the
// device. Locking: none. Errors: kCorrupted with words, the device's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/ext4/ext2.h"
#include "server/journal/log_source.h"

namespace fuse4fs::ext4 {

using BlockRange = std::pair<std::uint64_t, std::uint64_t>;  // first, and the one behind the last

class JournalMap {
 public:
  // `super` was judged, and has a journal inode (s_journal_inum).
  static Outcome<JournalMap> read(const cache::BlockDevice& device, const ext2_super_block& super);

  // As many as the inode's size says, all of them mapped. At least 1.
  [[nodiscard]] std::uint32_t blocks() const { return blocks_; }
  // Block of the volume that log block `log`, below blocks(), is; and how many follow each other from there.
  struct Place {
    std::uint64_t block;
    std::uint32_t count;
  };
  [[nodiscard]] Place find(std::uint32_t log) const;
  // Whether the block is one of the log's or of its map.
  [[nodiscard]] bool owns(std::uint64_t block) const;
  // Sorted, apart.
  [[nodiscard]] const std::vector<BlockRange>& ranges() const { return ranges_; }
  // The inode was unusable, and why: the superblock's copy was taken.
  [[nodiscard]] const std::string& fallback() const { return fallback_; }

  struct Run {
    std::uint32_t log;
    std::uint32_t count;
    std::uint64_t block;
  };

 private:
  JournalMap() = default;

  std::uint32_t blocks_ = 0;
  std::vector<Run> runs_;  // in the log's order, without a gap
  std::vector<BlockRange> ranges_;
  std::string fallback_;
};

// The log that it maps. `device` and `map` must outlive it.
class InternalLog final : public journal::LogSource {
 public:
  InternalLog(const cache::BlockDevice& device, const JournalMap& map, std::uint32_t block_size)
      : device_(device), map_(map), block_size_(block_size) {}

  [[nodiscard]] std::uint32_t block_size() const override { return block_size_; }
  [[nodiscard]] std::uint32_t blocks() const override { return map_.blocks(); }
  [[nodiscard]] std::uint32_t superblock() const override { return 0; }
  Result<void> read(std::uint32_t first, std::span<std::byte> into) override;

 private:
  const cache::BlockDevice& device_;
  const JournalMap& map_;
  const std::uint32_t block_size_;
};

}  // namespace fuse4fs::ext4
