// SPDX-License-Identifier: GPL-2.0-or-later
// How many metadata blocks an operation may change: what its journal::Handle is begun with.
//
// Upper bounds, from the forms that the format allows: a map of extents has five levels below its inode
// (EXT4_MAX_EXTENT_DEPTH), an indirect one three, an index of names three. Locking: none. Errors: none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "server/journal/handle.h"

namespace fuse4fs::ext4::credits {

// The block of the table that it lies in.
inline constexpr std::size_t kInode = 1;
// Taken or given back: bitmap, descriptor and superblock.
inline constexpr std::size_t kAllocation = 3;
// An inode's number as well.
inline constexpr std::size_t kNewInode = kAllocation + kInode;
// One block is mapped or unmapped: each level may be split, and each half is a block that is allocated.
inline constexpr std::size_t kMapChange = 5 * (2 + kAllocation);
// An attribute's block, given up for a new one.
inline constexpr std::size_t kXattr = 2 * (1 + kAllocation);
// A name comes, goes, or leads elsewhere: its block and the directory's inode; where the block is split, each
// level of the index as well, with the blocks that this takes and the directory's map.
inline constexpr std::size_t kName = kInode + 3 * (2 + kAllocation + kMapChange);

inline constexpr journal::Credits of_attributes{.blocks = kInode + kXattr};
// In a large value's own inode: its blocks and its map.
constexpr journal::Credits of_xattr(std::size_t value_bytes, std::uint32_t block_size) {
  const std::size_t blocks = value_bytes / block_size + 1;
  return {.blocks = kInode + kXattr + 2 * kNewInode + kMapChange + blocks * (1 + kAllocation)};
}
inline constexpr journal::Credits of_new_name{.blocks = kName + kInode + kNewInode + kXattr + kMapChange};
inline constexpr journal::Credits of_link{.blocks = kName + kInode};
// What its deletion takes beyond that is begun anew, group by group.
inline constexpr journal::Credits of_unlink{.blocks = kName + kInode + kNewInode + kXattr + kMapChange};
// Two names, their inodes, ".." of a directory, a whiteout, and what is replaced.
inline constexpr journal::Credits of_rename{.blocks = 2 * (kName + kInode + 1) + 2 * kNewInode + kXattr +
                                                      kMapChange};
// Of `runs` of blocks that are taken, mapped, converted or given back; each in a group or two.
constexpr journal::Credits of_map(std::size_t runs) {
  return {.blocks = kInode + kXattr + runs * (2 * kAllocation + kMapChange)};
}
inline constexpr journal::Credits of_deletion = of_map(1);

}  // namespace fuse4fs::ext4::credits
