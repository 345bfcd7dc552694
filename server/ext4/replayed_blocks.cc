// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/replayed_blocks.h"

#include <fmt/format.h>

#include "server/ext4/block_owners.h"
#include "server/ext4/orphan_list.h"

namespace fuse4fs::ext4 {

ReplayedBlocks::ReplayedBlocks(Metadata& metadata) : metadata_(metadata) {
  metadata_.blocks.keep_back([this](BlockRun run) {
    balance_.add_dropped(run);
    if (shared_) shared_->drop(run);
  });
}

ReplayedBlocks::~ReplayedBlocks() { metadata_.blocks.keep_back(nullptr); }

Result<void> ReplayedBlocks::mark_owned(InodeNumber number) {
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_raw(number));
  if (!inode.has_blocks_map()) return {};
  RETURN_IF_ERROR(metadata_.extents.check(inode));
  std::uint64_t budget = metadata_.volume.blocks();
  Result<void> taken;
  RETURN_IF_ERROR(visit_blocks(metadata_.volume, inode, budget, [&](BlockRun run) {
    const auto free = metadata_.blocks.take_free(run);
    if (!free && taken) taken = fail(free.error());
  }));
  return taken;
}

Result<void> ReplayedBlocks::reserve(BlockRun run) {
  ASSIGN_OR_RETURN(const auto taken, metadata_.blocks.take_free(run));
  for (const BlockRun& free : taken) balance_.add_nobodys(free);
  return {};
}

Result<void> ReplayedBlocks::settle(std::span<const InodeNumber> orphans, const Progress& progress) {
  shared_.emplace(balance_);
  if (!shared_->empty()) RETURN_IF_ERROR(take_from_orphans(orphans, progress));
  const auto parts = balance_.unsettled();
  for (const auto& [run, owners] : parts) {
    if (owners < 0) return impossible(run.first, owners);
  }
  if (!shared_->empty()) RETURN_IF_ERROR(look_for_owners(progress));
  metadata_.blocks.keep_back(nullptr);
  for (const auto& [run, owners] : parts) {
    if (owners == 0) RETURN_IF_ERROR(metadata_.blocks.give_back(run, 0));
  }
  return {};
}

// With data=writeback blocks of a file that is gone may have another owner before its end was committed.
Result<void> ReplayedBlocks::take_from_orphans(std::span<const InodeNumber> orphans,
                                               const Progress& progress) {
  std::uint64_t done = 0;
  for (const InodeNumber number : orphans) {
    if (shared_->empty()) break;
    if (progress) progress("taking blocks from files without a name", ++done, orphans.size());
    ASSIGN_OR_RETURN(const auto verdict, judge_orphan(metadata_, number));
    if (!verdict.inode || verdict.inode->raw.i_links_count != 0) continue;
    Inode inode = *verdict.inode;
    RETURN_IF_ERROR(take_from(inode));
  }
  return {};
}

Result<void> ReplayedBlocks::take_from(Inode& inode) {
  RETURN_IF_ERROR(metadata_.extents.check(inode));
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, 0, metadata_.extents.block_limit(inode)));
  bool changed = false;
  for (const Mapping& part : parts) {
    if (part.kind == Mapping::Kind::kHole) continue;
    for (const auto& [first, count] : shared_->inside({part.physical, part.count})) {
      RETURN_IF_ERROR(metadata_.extents.remove(inode, part.logical + (first - part.physical), count));
      changed = true;
    }
  }
  return changed ? metadata_.inodes.write(inode) : Result<void>();
}

// So far the bitmap was believed. But a replay before this one may have been cut short with the bitmap
// written, and the inodes not.
Result<void> ReplayedBlocks::look_for_owners(const Progress& progress) {
  const SharedBlocks suspects(balance_);
  const auto tell = [&](std::uint64_t done, std::uint64_t all) {
    if (progress) progress("looking for the owners of blocks", done, all);
  };
  ASSIGN_OR_RETURN(const auto block, first_shared_block(metadata_, suspects, tell));
  return block ? impossible(*block, 2) : Result<void>();
}

std::unexpected<Errno> ReplayedBlocks::impossible(std::uint64_t block, int owners) {
  words_ = fmt::format(
      "the journal's fast commits are damaged: block {} would belong to {} files; try: e2fsck DEVICE", block,
      owners);
  return fail(kCorrupted);
}

}  // namespace fuse4fs::ext4
