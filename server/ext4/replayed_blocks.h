// SPDX-License-Identifier: GPL-2.0-or-later
// The blocks that a replay of fast commits gives to files and takes from them, in an order that says nothing:
// while it lives nothing is freed, or given to anybody else, and at the end each block must have exactly one
// owner.
//
// Locking: before anybody else has the volume. One at a time: it keeps back what
// BlockAllocator is given. Errors: EUCLEAN (told already, or see words()), the device's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "server/ext4/block_balance.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

class ReplayedBlocks {
 public:
  explicit ReplayedBlocks(Metadata& metadata);
  ~ReplayedBlocks();
  ReplayedBlocks(const ReplayedBlocks&) = delete;
  ReplayedBlocks& operator=(const ReplayedBlocks&) = delete;

  // What the inode's map holds, its nodes included, is taken in the bitmap as well. Before anything else.
  Result<void> mark_owned(InodeNumber number);
  // Where files are to be no extent tree and no directory may grow. Before the first change.
  Result<void> reserve(BlockRun run);
  // A file has them from now on.
  void add_taken(BlockRun run) { balance_.add_taken(run); }

  // After the last change: the bitmap becomes what it is to be. Blocks of `orphans` without a name that
  // others have as well are taken from them first. `progress` may be empty.
  using Progress = std::function<void(std::string_view doing, std::uint64_t done, std::uint64_t all)>;
  Result<void> settle(std::span<const InodeNumber> orphans, const Progress& progress);
  // What is wrong with the records, where settle() failed for that.
  [[nodiscard]] const std::string& words() const { return words_; }

 private:
  Result<void> take_from_orphans(std::span<const InodeNumber> orphans, const Progress& progress);
  Result<void> take_from(Inode& inode);
  Result<void> look_for_owners(const Progress& progress);
  std::unexpected<Errno> impossible(std::uint64_t block, int owners);

  Metadata& metadata_;
  BlockBalance balance_;
  std::optional<SharedBlocks> shared_;  // once all records were applied
  std::string words_;
};

}  // namespace fuse4fs::ext4
