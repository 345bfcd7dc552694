// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: looking up and checking. Changing is extent_map.cc.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "server/ext4/crc32c.h"
#include "server/ext4/errors.h"
#include "server/ext4/extent_map.h"

namespace fuse4fs::ext4 {
namespace {

constexpr int kDeepest = 5;  // what 2^32 blocks need with the smallest nodes
constexpr std::uint64_t kExtentBlocks = std::uint64_t{1} << 32;
constexpr std::uint16_t kLongestWritten = 1 << 15;  // longer ones mean unwritten, minus this

struct Leaf {
  std::uint64_t logical, physical, count;
  bool unwritten;
};

Leaf decode(const ext3_extent& entry) {
  const bool unwritten = entry.ee_len > kLongestWritten;
  return {entry.ee_block, entry.ee_start | static_cast<std::uint64_t>(entry.ee_start_hi) << 32,
          static_cast<std::uint64_t>(unwritten ? entry.ee_len - kLongestWritten : entry.ee_len), unwritten};
}

std::uint64_t child_of(const ext3_extent_idx& entry) {
  return entry.ei_leaf | static_cast<std::uint64_t>(entry.ei_leaf_hi) << 32;
}

}  // namespace

// A node whose header was checked.
struct ExtentMap::Node {
  int depth = 0;
  std::size_t entries = 0;
  const std::byte* first = nullptr;

  [[nodiscard]] ext3_extent leaf(std::size_t index) const { return at<ext3_extent>(index); }
  [[nodiscard]] ext3_extent_idx link(std::size_t index) const { return at<ext3_extent_idx>(index); }
  // Leaves and links both begin with their first block.
  [[nodiscard]] std::uint64_t logical(std::size_t index) const { return at<ext3_extent>(index).ee_block; }

 private:
  template <class Entry>
  [[nodiscard]] Entry at(std::size_t index) const {
    static_assert(sizeof(Entry) == 12);
    Entry entry;
    std::memcpy(&entry, first + index * sizeof entry, sizeof entry);
    return entry;
  }
};

Result<ExtentMap::Node> ExtentMap::open_node(const Inode& inode, std::span<const std::byte> bytes,
                                             std::uint64_t block, int depth) {
  ext3_extent_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::size_t room = (bytes.size() - sizeof header) / sizeof(ext3_extent);
  if (header.eh_magic != EXT3_EXT_MAGIC || header.eh_max > room || header.eh_max + 2U < room ||
      header.eh_entries > header.eh_max || header.eh_depth > kDeepest ||
      (depth >= 0 && header.eh_depth != depth) || (header.eh_depth > 0 && header.eh_entries == 0))
    return fail(volume_.corrupted(inode.number, block, "a node of the extent tree is damaged"));
  return Node{header.eh_depth, header.eh_entries, bytes.data() + sizeof header};
}

Result<void> ExtentMap::read_node(const Inode& inode, std::uint64_t block, std::vector<std::byte>& into) {
  if (!volume_.may_be_owned(block, 1))
    return fail(
        volume_.corrupted(inode.number, block, "the extent tree points outside of what a file may own"));
  into.resize(volume_.block_size());
  if (auto read = volume_.cache().read(block << volume_.block_bits(), into); !read)
    return volume_.check(read.error().value(), inode.number, "reading an extent node");
  if (!volume_.has_checksums()) return {};
  // The checksum lies behind the last possible entry: that place must be inside before it is looked at.
  RETURN_IF_ERROR(open_node(inode, into, block, -1));
  ext3_extent_header header;
  std::memcpy(&header, into.data(), sizeof header);
  const std::size_t place = sizeof header + header.eh_max * sizeof(ext3_extent);
  std::uint32_t stored = 0;
  std::memcpy(&stored, into.data() + place, sizeof stored);
  std::uint32_t sum = crc32c(volume_.fs()->csum_seed, &inode.number, sizeof inode.number);
  sum = crc32c(sum, &inode.raw.i_generation, sizeof inode.raw.i_generation);
  if (crc32c(sum, into.data(), place) != stored)
    return fail(volume_.corrupted(inode.number, block, "the checksum of an extent node is wrong"));
  return {};
}

Result<Mapping> ExtentMap::find_extent(const Inode& inode, std::uint64_t logical) {
  std::vector<std::byte> block;
  std::uint64_t limit = kExtentBlocks;  // where the subtree of the current node ends
  std::uint64_t number = 0;
  ASSIGN_OR_RETURN(auto node, open_node(inode, std::as_bytes(std::span(inode.raw.i_block)), 0, -1));
  while (true) {
    // The first entry that begins behind `logical`.
    std::size_t low = 0;
    std::size_t high = node.entries;
    while (low < high) {
      const std::size_t middle = low + (high - low) / 2;
      if (node.logical(middle) <= logical)
        low = middle + 1;
      else
        high = middle;
    }
    if (low < node.entries) limit = std::min(limit, node.logical(low));
    if (low == 0) return Mapping{logical, 0, limit - logical, Mapping::Kind::kHole};
    if (node.depth == 0) {
      const Leaf leaf = decode(node.leaf(low - 1));
      if (leaf.count == 0 || leaf.logical + leaf.count > kExtentBlocks ||
          !volume_.may_be_owned(leaf.physical, leaf.count))
        return fail(volume_.corrupted(inode.number, leaf.physical, "an extent lies where it cannot"));
      const std::uint64_t inside = logical - leaf.logical;
      if (inside >= leaf.count) return Mapping{logical, 0, limit - logical, Mapping::Kind::kHole};
      const std::uint64_t count = std::min(leaf.count - inside, limit - logical);
      return Mapping{logical, leaf.physical + inside, count,
                     leaf.unwritten ? Mapping::Kind::kUnwritten : Mapping::Kind::kWritten};
    }
    number = child_of(node.link(low - 1));
    RETURN_IF_ERROR(read_node(inode, number, block));
    ASSIGN_OR_RETURN(node, open_node(inode, block, number, node.depth - 1));
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

Result<Mapping> ExtentMap::find(const Inode& inode, std::uint64_t logical) {
  return inode.has(EXT4_EXTENTS_FL) ? find_extent(inode, logical) : find_indirect(inode, logical);
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

std::uint64_t ExtentMap::goal_for(const Inode& inode, std::uint64_t logical) {
  if (logical > 0 && inode.has_blocks_map()) {
    // Behind the block before it; a hole there says nothing.
    if (const auto before = find(inode, logical - 1); before && before->kind != Mapping::Kind::kHole)
      return before->physical + 1;
  }
  return ext2fs_group_first_block2(volume_.fs(), ext2fs_group_of_ino(volume_.fs(), inode.number));
}

Result<void> ExtentMap::check(const Inode& inode) {
  if (!inode.has_blocks_map()) return {};
  // No map can hold more nodes than the volume has blocks: a cycle or a fan-in ends here.
  std::uint64_t budget = volume_.blocks();
  if (inode.has(EXT4_EXTENTS_FL))
    return check_node(inode, std::as_bytes(std::span(inode.raw.i_block)), 0, -1, 0, kExtentBlocks, budget);
  for (int i = 0; i < EXT2_N_BLOCKS; ++i) {
    const int level = std::max(0, i - EXT2_NDIR_BLOCKS + 1);
    RETURN_IF_ERROR(check_indirect(inode, inode.raw.i_block[i], level, budget));
  }
  return {};
}

Result<void> ExtentMap::check_node(const Inode& inode, std::span<const std::byte> bytes, std::uint64_t block,
                                   int depth, std::uint64_t begin, std::uint64_t end, std::uint64_t& budget) {
  ASSIGN_OR_RETURN(const auto node, open_node(inode, bytes, block, depth));
  std::vector<std::byte> child;
  std::uint64_t behind = begin;
  for (std::size_t i = 0; i < node.entries; ++i) {
    const std::uint64_t logical = node.logical(i);
    if (logical < behind || logical >= end)
      return fail(volume_.corrupted(inode.number, block, "entries of the extent tree are out of order"));
    if (node.depth == 0) {
      const Leaf leaf = decode(node.leaf(i));
      behind = logical + leaf.count;
      if (leaf.count == 0 || behind > end || !volume_.may_be_owned(leaf.physical, leaf.count))
        return fail(volume_.corrupted(inode.number, leaf.physical, "an extent lies where it cannot"));
      continue;
    }
    if (budget-- == 0) return fail(volume_.corrupted(inode.number, block, "the extent tree has no end"));
    behind = i + 1 < node.entries ? node.logical(i + 1) : end;
    if (behind <= logical)
      return fail(volume_.corrupted(inode.number, block, "entries of the extent tree are out of order"));
    const std::uint64_t number = child_of(node.link(i));
    RETURN_IF_ERROR(read_node(inode, number, child));
    RETURN_IF_ERROR(check_node(inode, child, number, node.depth - 1, logical, behind, budget));
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
