// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: looking up and checking. Changing is extent_map.cc.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "server/ext4/errors.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/extent_tree.h"

namespace fuse4fs::ext4 {
namespace {

Mapping from_there_on(const Mapping& extent, std::uint64_t logical) {
  const std::uint64_t inside = logical - extent.logical;
  return {logical, extent.physical + inside, extent.count - inside, extent.kind};
}

}  // namespace

Result<Mapping> ExtentMap::search_extents(const Inode& inode, std::uint64_t logical) {
  cache::Buffer buffer;
  std::uint64_t limit = kExtentBlocks;  // where the subtree of the current node ends
  ASSIGN_OR_RETURN(auto node, extent_root(volume_, inode));
  while (true) {
    const std::size_t behind = node.behind(logical);
    if (behind < node.entries()) limit = std::min(limit, node.logical(behind));
    if (behind == 0) return Mapping{logical, 0, limit - logical, Mapping::Kind::kHole};
    if (node.depth() == 0) {
      const Mapping extent = node.extent(behind - 1);
      if (extent.count == 0 || extent.end() > kExtentBlocks ||
          !volume_.may_be_owned(extent.physical, extent.count))
        return fail(volume_.corrupted(inode.number, extent.physical, "an extent lies where it cannot"));
      if (extent.end() <= logical) return Mapping{logical, 0, limit - logical, Mapping::Kind::kHole};
      return Mapping{extent.logical, extent.physical, std::min(extent.end(), limit) - extent.logical,
                     extent.kind};
    }
    // A root of links without blocks below it would be read for ever: each level is one less.
    cache::Buffer below;
    ASSIGN_OR_RETURN(node, extent_node(volume_, inode, node.child(behind - 1), node.depth() - 1, below));
    buffer = std::move(below);
  }
}

Result<Mapping> ExtentMap::find_indirect(const Inode& inode, std::uint64_t logical) {
  const std::uint64_t per_block = volume_.block_size() / 4;
  std::uint64_t inside = logical;
  std::uint32_t pointer = 0;
  if (inside < EXT2_NDIR_BLOCKS) {
    pointer = inode.raw.i_block[inside];
    if (pointer == 0) return Mapping{logical, 0, 1, Mapping::Kind::kHole};
  } else {
    inside -= EXT2_NDIR_BLOCKS;
    int level = 1;
    std::uint64_t span = per_block;
    while (level <= 3 && inside >= span) {
      inside -= span;
      span *= per_block;
      ++level;
    }
    if (level > 3) return Mapping{logical, 0, 1, Mapping::Kind::kHole};
    pointer = inode.raw.i_block[EXT2_NDIR_BLOCKS + level - 1];
    for (; level > 0; --level) {
      // A missing indirect block is a hole as long as what it would map.
      if (pointer == 0) return Mapping{logical, 0, span - inside % span, Mapping::Kind::kHole};
      span /= per_block;
      if (!volume_.may_be_owned(pointer, 1))
        return fail(volume_.corrupted(inode.number, pointer, "an indirect block lies where it cannot"));
      const std::uint64_t offset =
          (static_cast<std::uint64_t>(pointer) << volume_.block_bits()) + inside / span * 4;
      if (auto read = volume_.cache().read(offset, std::as_writable_bytes(std::span(&pointer, 1))); !read)
        return fail(volume_.failed(read.error().value(), inode.number, "reading an indirect block"));
      inside %= span;
    }
    if (pointer == 0) return Mapping{logical, 0, 1, Mapping::Kind::kHole};
  }
  if (!volume_.may_be_owned(pointer, 1))
    return fail(volume_.corrupted(inode.number, pointer, "a block of a file lies where it cannot"));
  return Mapping{logical, pointer, 1, Mapping::Kind::kWritten};
}

Result<Mapping> ExtentMap::find_extent(const Inode& inode, std::uint64_t logical) {
  ASSIGN_OR_RETURN(const Mapping extent, search_extents(inode, logical));
  return from_there_on(extent, logical);
}

Result<Mapping> ExtentMap::find(const Inode& inode, std::uint64_t logical) {
  return inode.has(EXT4_EXTENTS_FL) ? find_extent(inode, logical) : find_indirect(inode, logical);
}

Result<Mapping> ExtentMap::find_whole(const Inode& inode, std::uint64_t logical) {
  if (!inode.has(EXT4_EXTENTS_FL)) return find_indirect(inode, logical);
  ASSIGN_OR_RETURN(const Mapping extent, search_extents(inode, logical));
  if (extent.logical == logical) return extent;
  // In a damaged tree a search for its first block may come to another one.
  const auto begin = search_extents(inode, extent.logical);
  return begin && *begin == extent ? extent : from_there_on(extent, logical);
}

Result<std::vector<Mapping>> ExtentMap::map(const Inode& inode, std::uint64_t first, std::uint64_t count) {
  std::vector<Mapping> parts;
  const std::uint64_t end = std::min(first + count, block_limit(inode));
  while (first < end) {
    ASSIGN_OR_RETURN(Mapping part, find(inode, first));
    part.count = std::min(part.count, end - first);
    first += part.count;
    if (!parts.empty()) {
      Mapping& last = parts.back();
      const bool follows = part.kind == Mapping::Kind::kHole || last.physical + last.count == part.physical;
      if (last.kind == part.kind && follows) {
        last.count += part.count;
        continue;
      }
    }
    parts.push_back(part);
  }
  return parts;
}

std::uint64_t ExtentMap::block_limit(const Inode& inode) const {
  // The kernel's last block is 2^32 - 2, so that a length can still be counted.
  constexpr std::uint64_t kLimit = kExtentBlocks - 1;
  if (inode.has(EXT4_EXTENTS_FL)) return kLimit;
  const std::uint64_t per_block = volume_.block_size() / 4;
  const std::uint64_t mapped =
      EXT2_NDIR_BLOCKS + per_block + per_block * per_block + per_block * per_block * per_block;
  return std::min(mapped, kLimit);
}

// The last extent that begins at `logical` or before it; where all lie behind it, the first of its leaf. Of a
// damaged or an empty map: none.
std::optional<Mapping> ExtentMap::extent_near(const Inode& inode, std::uint64_t logical) {
  cache::Buffer buffer;
  auto node = extent_root(volume_, inode);
  while (node && node->entries() != 0) {
    const std::size_t index = std::max<std::size_t>(node->behind(logical), 1) - 1;
    if (node->depth() == 0) return node->extent(index);
    cache::Buffer below;
    node = extent_node(volume_, inode, node->child(index), node->depth() - 1, below);
    buffer = std::move(below);
  }
  return std::nullopt;
}

std::uint64_t ExtentMap::goal_for(const Inode& inode, std::uint64_t logical) {
  if (inode.has_blocks_map() && inode.has(EXT4_EXTENTS_FL)) {
    // Where it would lie if the file had no hole between: that may be filled one day.
    if (const auto near = extent_near(inode, logical)) {
      const std::uint64_t goal = near->physical + logical - near->logical;
      if (volume_.may_be_owned(goal, 1)) return goal;
    }
  } else if (inode.has_blocks_map() && logical > 0) {
    // Behind the block before it; a hole there says nothing.
    if (const auto before = find(inode, logical - 1); before && before->kind != Mapping::Kind::kHole)
      return before->physical + 1;
  }
  return volume_.goal_of(inode.number,
                         inode.is_regular() ? Volume::Contents::kData : Volume::Contents::kMetadata);
}

Result<void> ExtentMap::check(const Inode& inode) {
  if (!inode.has_blocks_map()) return {};
  // No map can hold more nodes than the volume has blocks: a cycle or a fan-in ends here.
  std::uint64_t budget = volume_.blocks();
  if (inode.has(EXT4_EXTENTS_FL)) {
    ASSIGN_OR_RETURN(const auto root, extent_root(volume_, inode));
    return check_node(inode, root, 0, 0, kExtentBlocks, budget);
  }
  for (int i = 0; i < EXT2_N_BLOCKS; ++i) {
    const int level = std::max(0, i - EXT2_NDIR_BLOCKS + 1);
    RETURN_IF_ERROR(check_indirect(inode, inode.raw.i_block[i], level, budget));
  }
  return {};
}

Result<void> ExtentMap::check_node(const Inode& inode, const ExtentNode& node, std::uint64_t block,
                                   std::uint64_t begin, std::uint64_t end, std::uint64_t& budget) {
  std::uint64_t behind = begin;
  for (std::size_t i = 0; i < node.entries(); ++i) {
    const std::uint64_t logical = node.logical(i);
    if (logical < behind || logical >= end)
      return fail(volume_.corrupted(inode.number, block, "entries of the extent tree are out of order"));
    if (node.depth() == 0) {
      const Mapping extent = node.extent(i);
      behind = extent.end();
      if (extent.count == 0 || behind > end || !volume_.may_be_owned(extent.physical, extent.count))
        return fail(volume_.corrupted(inode.number, extent.physical, "an extent lies where it cannot"));
      continue;
    }
    if (budget-- == 0) return fail(volume_.corrupted(inode.number, block, "the extent tree has no end"));
    behind = i + 1 < node.entries() ? node.logical(i + 1) : end;
    if (behind <= logical)
      return fail(volume_.corrupted(inode.number, block, "entries of the extent tree are out of order"));
    cache::Buffer buffer;
    const std::uint64_t number = node.child(i);
    ASSIGN_OR_RETURN(const auto child, extent_node(volume_, inode, number, node.depth() - 1, buffer));
    RETURN_IF_ERROR(check_node(inode, child, number, logical, behind, budget));
  }
  return {};
}

Result<void> ExtentMap::check_indirect(const Inode& inode, std::uint32_t block, int level,
                                       std::uint64_t& budget) {
  if (block == 0) return {};
  if (budget-- == 0 || !volume_.may_be_owned(block, 1))
    return fail(volume_.corrupted(inode.number, block, "a block of a file lies where it cannot"));
  if (level == 0) return {};
  std::vector<std::uint32_t> pointers(volume_.block_size() / 4);
  const auto offset = static_cast<std::uint64_t>(block) << volume_.block_bits();
  if (auto read = volume_.cache().read(offset, std::as_writable_bytes(std::span(pointers))); !read)
    return volume_.check(read.error().value(), inode.number, "reading an indirect block");
  for (const std::uint32_t pointer : pointers)
    RETURN_IF_ERROR(check_indirect(inode, pointer, level - 1, budget));
  return {};
}

}  // namespace fuse4fs::ext4
