// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks inodes really have, by their maps: for where the bitmap cannot be believed.
//
// Locking: before anybody else has the volume. Nothing is changed.
// Errors: EUCLEAN, told already, where an inode or its map is damaged, or where maps hold more blocks than
// there are; the device's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/result.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/block_balance.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

// The blocks of an inode's map, its nodes included, in runs of whole clusters. The map was checked
// (ExtentMap::check()). `budget`: how many blocks there may be; what they are is taken off.
Result<void> visit_blocks(Volume& volume, const Inode& inode, std::uint64_t& budget,
                          const std::function<void(BlockRun)>& found);

// The first of `suspects` that is in more than one place of the maps of all inodes in use; nothing where
// there is none. It takes as long as the first pass of e2fsck: so only where the volume would be refused
// otherwise. `progress` is called for each inode, and may be empty.
using OwnerProgress = std::function<void(std::uint64_t done, std::uint64_t all)>;
Result<std::optional<std::uint64_t>> first_shared_block(Metadata& metadata, const SharedBlocks& suspects,
                                                        const OwnerProgress& progress);

}  // namespace fuse4fs::ext4
