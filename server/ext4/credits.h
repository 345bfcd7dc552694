// SPDX-License-Identifier: GPL-2.0-or-later
// How many metadata blocks an operation may change: what its journal::Handle is begun with.
//
// Upper bounds, from the forms that the format allows: a map of extents has five levels below its inode
// (EXT4_MAX_EXTENT_DEPTH), an indirect one three, an index of names three. A block counts once a handle, so
// what two steps of one operation both change is counted here once. The share of the descriptors is what it
// will be when those are blocks that a handle changes; until then it keeps them over.
//
// Work without a bound (a map of many extents) is begun with of_map, and asks Journal::ensure() for that
// again before each of its steps. So what an operation has to do behind it is always left.
//
// Locking: none. Errors: none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "server/journal/handle.h"

namespace fuse4fs::ext4::credits {

// What is free in all; once an operation.
inline constexpr std::size_t kSuperblock = 1;
// One block or inode is taken or given back: bitmap and descriptor of its group.
inline constexpr std::size_t kAllocation = 2;
// The block of the table that it lies in.
inline constexpr std::size_t kInode = 1;
inline constexpr std::size_t kNewInode = kAllocation + kInode;
// What one extent holds: at most 2^15 blocks. A group has 2^13 or more, unless mke2fs was told otherwise
// (-g), so that is at most five groups.
inline constexpr std::size_t kRun = 5 * kAllocation;
// One extent is mapped, unmapped or made another kind. The nodes on the way to it change, and each may be
// split into a new one, the root's content moving down to one as well; or each may go, with the extent. An
// indirect map changes less: three blocks on the way, three new ones.
inline constexpr std::size_t kMapLevels = 5;
inline constexpr std::size_t kMapChange = kMapLevels * (2 + kAllocation);
// An attribute's block, given up for a new one; or two blocks that count their sharers.
inline constexpr std::size_t kXattr = 2 * (1 + kAllocation);
// The blocks that a name needs when there is no room for it: its leaf is split, once more if it is a long
// name in a short block, and so is each of the three levels above, or the root's content moves down to a
// node. All of them go to the end of the directory, so what they change of its map is what one change may.
inline constexpr std::size_t kSplits = 5;
inline constexpr std::size_t kName = kInode + kSplits * (2 + kAllocation) + kMapChange;
// The last of an inode, its blocks aside.
inline constexpr std::size_t kDeletion = kNewInode + kXattr;

inline constexpr journal::Credits of_superblock{.blocks = kSuperblock};
inline constexpr journal::Credits of_orphan_block{.blocks = 1};
inline constexpr journal::Credits of_bitmap{.blocks = 1};
inline constexpr journal::Credits of_attributes{.blocks = kSuperblock + kInode + kXattr};
// A step of a change of a map, and the inode with all that may have to be done to it behind the last one.
inline constexpr journal::Credits of_map{.blocks = kSuperblock + kDeletion + kRun + kMapChange};
// A run of blocks is taken, and mapped later; or given back.
inline constexpr journal::Credits of_run{.blocks = kSuperblock + kRun};

// What hangs on `blocks` neighbours of an indirect map goes: the blocks that they hang on, one for each
// `per_block` and two ends, and two levels above it; and their groups.
constexpr journal::Credits of_indirect_map(std::uint64_t blocks, std::uint64_t per_block,
                                           std::uint64_t groups) {
  const std::uint64_t lowest = blocks / per_block + 2;
  const std::uint64_t changed = lowest + (lowest / per_block + 2) + 1;
  return {.blocks = kSuperblock + kDeletion + changed + kAllocation * std::min(blocks + changed, groups)};
}

// A value in an inode of its own comes or goes: that inode, its blocks, and one node of its map.
constexpr journal::Credits of_value_inode(std::size_t bytes, std::uint32_t block_size) {
  const std::size_t blocks = (bytes + block_size - 1) / block_size + 1;
  return {.blocks = kNewInode + blocks * (1 + kAllocation)};
}
// A new one, and an old one that nobody refers to any more.
constexpr journal::Credits of_xattr(std::size_t bytes, std::uint32_t block_size) {
  return {.blocks = of_attributes.blocks + 2 * of_value_inode(bytes, block_size).blocks};
}

// A name, a new inode with what it inherits, and its first block: a directory's, or a long target.
inline constexpr journal::Credits of_new_name{.blocks = kSuperblock + kName + kNewInode + 2 * kXattr + 1 +
                                                        kAllocation};
inline constexpr journal::Credits of_link{.blocks = kSuperblock + kName + kInode};
// The name, and with the last one the inode. Its map begins with what is left of this, and asks for more.
inline constexpr journal::Credits of_unlink{.blocks = kSuperblock + kName + kDeletion};
// Two names with what they lead to, ".." in each, an inode that stands in, and the end of what is replaced.
inline constexpr journal::Credits of_rename{.blocks = kSuperblock + 2 * (kName + kInode + 1) + kNewInode +
                                                      2 * kXattr + kDeletion};

// Of any number of inodes, of a volume that nobody else has yet: nothing is logged.
inline constexpr journal::Credits of_replay{.blocks = std::numeric_limits<std::size_t>::max()};

}  // namespace fuse4fs::ext4::credits
