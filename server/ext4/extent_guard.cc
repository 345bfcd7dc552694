// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: what a damaged bitmap hands out must not be what the file has already.
#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "server/ext4/extent_map.h"
#include "server/ext4/extent_tree.h"

namespace fuse4fs::ext4 {
namespace {

// Of a leaf in a block (cache::Buffer::is_verified).
constexpr unsigned kFoundInUse = 0;

// Of so many entries those beside the place.
std::pair<std::size_t, std::size_t> around(std::size_t place, std::size_t count) {
  constexpr std::size_t kNeighbours = 2;
  return {place - std::min(place, kNeighbours), std::min(place + kNeighbours, count)};
}

bool overlap(BlockRun one, BlockRun other) { return one.first < other.end() && other.first < one.end(); }

}  // namespace

// What cannot be known harms nobody: nothing is taken from a group whose bitmap cannot be used.
Result<void> ExtentMap::must_be_used(const Inode& inode, BlockRun run) {
  if (!volume_.may_be_owned(run.first, run.count))
    return fail(volume_.corrupted(inode.number, run.first, "a block of a file lies where it cannot"));
  const auto looked = volume_.block_bitmaps().first_unused(run);
  const auto unused = looked.value_or(std::nullopt);
  return unused ? fail(volume_.block_bitmaps().distrust(*unused, inode.number)) : Result<void>();
}

Result<void> ExtentMap::check_taken(Inode& inode, std::uint64_t logical, BlockRun taken) {
  auto sound = judge_taken(inode, logical, taken);
  if (!sound) (void)blocks_.give_back(taken, inode.number);
  return sound;
}

Result<void> ExtentMap::judge_taken(Inode& inode, std::uint64_t logical, BlockRun taken) {
  if (const BlockRun attributes{inode.xattr_block(), 1}; attributes.first != 0) {
    if (overlap(attributes, taken))
      return fail(volume_.block_bitmaps().distrust(attributes.first, inode.number));
    if (!inode.found_in_use) RETURN_IF_ERROR(must_be_used(inode, attributes));
  }
  if (inode.has_blocks_map())
    RETURN_IF_ERROR(inode.has(EXT4_EXTENTS_FL) ? check_extents_of(inode, logical, taken)
                                               : check_pointers_of(inode, logical, taken));
  inode.found_in_use = true;
  return {};
}

Result<void> ExtentMap::check_extents_of(Inode& inode, std::uint64_t logical, BlockRun taken) {
  cache::Buffer buffer;
  ASSIGN_OR_RETURN(auto leaf, extent_root(volume_, inode));
  const bool is_root = leaf.depth() == 0;
  while (leaf.depth() != 0) {
    const std::size_t behind = std::max<std::size_t>(leaf.behind(logical), 1);
    cache::Buffer below;
    ASSIGN_OR_RETURN(leaf, extent_node(volume_, inode, leaf.child(behind - 1), leaf.depth() - 1, below));
    buffer = std::move(below);
  }
  // What is in use was not handed out, unless another file that has it too gave it back: of a long leaf the
  // neighbours will do.
  const bool known = is_root ? inode.found_in_use : buffer.is_verified(kFoundInUse);
  const auto [first, end] =
      known ? around(leaf.behind(logical), leaf.entries()) : std::pair(0UZ, leaf.entries());
  for (std::size_t i = first; i < end; ++i) {
    const Mapping extent = leaf.extent(i);
    if (overlap({extent.physical, extent.count}, taken))
      return fail(volume_.block_bitmaps().distrust(std::max(extent.physical, taken.first), inode.number));
  }
  if (known) return {};
  for (std::size_t i = 0; i < leaf.entries(); ++i) {
    const Mapping extent = leaf.extent(i);
    RETURN_IF_ERROR(must_be_used(inode, {extent.physical, extent.count}));
  }
  if (!is_root) buffer.set_verified(kFoundInUse);
  return {};
}

Result<void> ExtentMap::check_pointers_of(Inode& inode, std::uint64_t logical, BlockRun taken) {
  const auto way = indirect_way(logical, volume_.block_size() / sizeof(std::uint32_t));
  if (!way) return {};
  cache::Buffer buffer;
  std::span<const std::byte> leaf =
      std::as_bytes(std::span(inode.raw.i_block).first(way->level == 0 ? EXT2_NDIR_BLOCKS : 0));
  std::uint32_t block = inode.raw.i_block[way->slots[0]];
  for (std::size_t at = 1; at <= way->level; ++at) {
    if (block == 0 || !volume_.may_be_owned(block, 1)) return {};
    ASSIGN_OR_RETURN(buffer, volume_.cache().get(block));
    leaf = buffer.bytes();
    std::memcpy(&block, leaf.data() + way->slots[at] * sizeof block, sizeof block);
  }
  const bool known = way->level == 0 ? inode.found_in_use : buffer.is_verified(kFoundInUse);
  using Range = std::pair<std::size_t, std::size_t>;
  const Range all{0, leaf.size() / sizeof block};
  const auto each = [&](Range range, const auto& visit) -> Result<void> {
    for (std::size_t at = range.first; at < range.second; ++at) {
      std::uint32_t pointer = 0;
      std::memcpy(&pointer, leaf.data() + at * sizeof pointer, sizeof pointer);
      if (pointer != 0) RETURN_IF_ERROR(visit(BlockRun{pointer, 1}));
    }
    return {};
  };
  const Range compared = known ? around(way->slots[way->level], all.second) : all;
  RETURN_IF_ERROR(each(compared, [&](BlockRun one) -> Result<void> {
    if (!overlap(one, taken)) return {};
    return fail(volume_.block_bitmaps().distrust(one.first, inode.number));
  }));
  if (known) return {};
  RETURN_IF_ERROR(each(all, [&](BlockRun one) { return must_be_used(inode, one); }));
  if (way->level != 0) buffer.set_verified(kFoundInUse);
  return {};
}

}  // namespace fuse4fs::ext4
