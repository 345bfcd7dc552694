// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: changing. Looking up and checking is extent_find.cc.
#include "server/ext4/extent_map.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "server/ext4/errors.h"
#include "server/ext4/extent_handle.h"

namespace fuse4fs::ext4 {
void ExtentMap::initialise(Inode& inode) {
  std::memset(inode.raw.i_block, 0, sizeof inode.raw.i_block);
  if (!ext2fs_has_feature_extents(volume_.fs()->super)) return;
  inode.raw.i_flags |= EXT4_EXTENTS_FL;
  ext3_extent_header header{};
  header.eh_magic = EXT3_EXT_MAGIC;
  header.eh_max = (sizeof inode.raw.i_block - sizeof header) / sizeof(ext3_extent);
  std::memcpy(inode.raw.i_block, &header, sizeof header);
}

Result<void> ExtentMap::insert(Inode& inode, std::uint64_t logical, std::uint64_t physical,
                               std::uint64_t count, Mapping::Kind kind) {
  const auto library = volume_.library();
  if (inode.has(EXT4_EXTENTS_FL)) {
    const std::uint64_t longest = longest_extent(kind) & ~(std::uint64_t{volume_.cluster_blocks()} - 1);
    while (count > 0) {
      const std::uint64_t piece = std::min(count, longest);
      RETURN_IF_ERROR(insert_extent(inode, {logical, physical, piece, kind}));
      logical += piece;
      physical += piece;
      count -= piece;
    }
    return {};
  }
  std::vector<char> scratch(std::size_t{2} * volume_.block_size());
  for (; count > 0; --count, ++logical, ++physical) {
    // libext2fs leaks an indirect block when the next one cannot be had: all levels must find room.
    if (blocks_.usable_blocks() < 4 && logical >= EXT2_NDIR_BLOCKS) return fail(ENOSPC);
    blk64_t block = physical;
    RETURN_IF_ERROR(volume_.check(ext2fs_bmap2(volume_.fs(), inode.number, inode.brief(), scratch.data(),
                                               BMAP_SET | BMAP_ALLOC, logical, nullptr, &block),
                                  inode.number, "mapping a block"));
  }
  return {};
}

Result<void> ExtentMap::truncate(Inode& inode, std::uint64_t first) {
  if (!inode.has_blocks_map()) return {};
  const auto library = volume_.library();
  if (inode.has(EXT4_EXTENTS_FL)) return truncate_extents(inode, first);
  const std::uint64_t end = block_limit(inode);
  return first < end ? remove(inode, first, end - first) : Result<void>();
}

// Not ext2fs_punch(): that one refuses to free the volume's last block, after it has unmapped it; and of
// indirect maps it frees other blocks than it should.
Result<void> ExtentMap::truncate_extents(Inode& inode, std::uint64_t first) {
  const auto check = [&](errcode_t code) { return volume_.check(code, inode.number, "freeing an extent"); };
  std::uint64_t freed = 0;
  Result<void> outcome;
  // Each round shortens the map by an extent, from its end.
  while (outcome) {
    ASSIGN_OR_RETURN(const auto handle, open_extents(volume_, inode));
    ext2fs_extent extent{};
    errcode_t code = ext2fs_extent_get(handle.get(), EXT2_EXTENT_ROOT, &extent);
    if (code == EXT2_ET_EXTENT_NO_NEXT || code == EXT2_ET_NO_CURRENT_NODE) break;
    if (code == 0) code = ext2fs_extent_get(handle.get(), EXT2_EXTENT_LAST_LEAF, &extent);
    if (outcome = check(code); !outcome) break;
    const std::uint64_t end = extent.e_lblk + extent.e_len;
    if (end <= first) break;
    const std::uint64_t kept = first > extent.e_lblk ? first - extent.e_lblk : 0;
    if (kept == 0) {
      code = ext2fs_extent_delete(handle.get(), 0);
    } else {
      ext2fs_extent shorter = extent;
      shorter.e_len = static_cast<__u32>(kept);
      code = ext2fs_extent_replace(handle.get(), 0, &shorter);
    }
    if (outcome = check(code); !outcome) break;
    if (auto count = free_extent(inode, extent.e_lblk + kept, extent.e_pblk + kept, extent.e_len - kept);
        count)
      freed += *count;
    else
      outcome = std::unexpected(count.error());
    if (kept != 0) break;
  }
  const auto settled = settle_freed(inode, freed);
  return outcome ? settled : outcome;
}

Result<void> ExtentMap::settle_freed(Inode& inode, std::uint64_t clusters) {
  if (clusters == 0) return {};
  volume_.uncount_blocks(inode, clusters);
  // The count of its blocks, and nothing behind the fields that all inodes have.
  return volume_.write_inode(inode.number, std::as_const(inode).bytes().first(EXT2_GOOD_OLD_INODE_SIZE));
}

Result<void> ExtentMap::remove(Inode& inode, std::uint64_t first, std::uint64_t count) {
  if (!inode.has_blocks_map() || count == 0) return {};
  const auto library = volume_.library();
  std::uint64_t freed = 0;
  const auto removed = inode.has(EXT4_EXTENTS_FL) ? remove_extents(inode, first, count, freed)
                                                  : remove_indirect(inode, first, count, freed);
  const auto settled = settle_freed(inode, freed);
  return removed ? settled : removed;
}

// They are unmapped already. Answers how many clusters went: one that also holds other blocks of the file
// stays.
Result<std::uint64_t> ExtentMap::free_extent(Inode& inode, std::uint64_t logical, std::uint64_t physical,
                                             std::uint64_t count) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  std::uint64_t begin = physical & ~(cluster - 1);
  std::uint64_t end = (physical + count + cluster - 1) & ~(cluster - 1);
  if (begin != physical) {
    ASSIGN_OR_RETURN(const std::uint64_t shared, implied_block(inode, logical));
    if (shared != 0) begin += cluster;
  }
  if (begin < end && end != physical + count) {
    ASSIGN_OR_RETURN(const std::uint64_t shared, implied_block(inode, logical + count - 1));
    if (shared != 0) end -= cluster;
  }
  if (begin >= end) return 0;
  RETURN_IF_ERROR(blocks_.give_back({begin, end - begin}, inode.number));
  return (end - begin) / cluster;
}

Result<std::uint64_t> ExtentMap::implied_block(Inode& inode, std::uint64_t logical) {
  if (volume_.cluster_blocks() == 1) return 0;
  const auto library = volume_.library();
  blk64_t block = 0;
  RETURN_IF_ERROR(
      volume_.check(ext2fs_map_cluster_block(volume_.fs(), inode.number, inode.brief(), logical, &block),
                    inode.number, "looking for a cluster"));
  return block;
}

Result<void> ExtentMap::add_blocks(Inode& inode, std::uint64_t clusters) {
  return volume_.check(ext2fs_iblk_add_blocks(volume_.fs(), inode.brief(), clusters), inode.number,
                       "counting blocks");
}

}  // namespace fuse4fs::ext4
