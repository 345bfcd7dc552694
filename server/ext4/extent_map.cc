// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: changing. Looking up and checking is extent_find.cc.
#include "server/ext4/extent_map.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "server/ext4/credits.h"
#include "server/ext4/errors.h"
#include "server/ext4/extent_tree.h"

namespace fuse4fs::ext4 {
namespace {

// What `extent` holds from `from` to before `to`, as `kind`.
Mapping part_of(const Mapping& extent, std::uint64_t from, std::uint64_t to, Mapping::Kind kind) {
  return {from, extent.physical + (from - extent.logical), to - from, kind};
}

}  // namespace

void ExtentMap::initialise(Inode& inode) {
  std::memset(inode.raw.i_block, 0, sizeof inode.raw.i_block);
  if (!ext2fs_has_feature_extents(volume_.fs()->super)) return;
  inode.raw.i_flags |= EXT4_EXTENTS_FL;
  ExtentNodeEdit(std::as_writable_bytes(std::span(inode.raw.i_block))).initialise(0);
}

Result<void> ExtentMap::insert(Inode& inode, std::uint64_t logical, std::uint64_t physical,
                               std::uint64_t count, Mapping::Kind kind) {
  std::uint64_t mapped = 0;
  Result<void> done;
  if (inode.has(EXT4_EXTENTS_FL)) {
    done = insert_extents(inode, {logical, physical, count, kind}, mapped);
  } else {
    for (; done && mapped < count; mapped += done ? 1 : 0)
      done = insert_indirect(inode, logical + mapped, physical + mapped);
  }
  // What cannot be undone stays known: the volume is damaged then, and was said to be.
  if (!done && mapped != 0) (void)unmap(inode, logical, logical + mapped);
  return write_map(inode, done);
}

Result<void> ExtentMap::unmap(Inode& inode, std::uint64_t first, std::uint64_t end) {
  if (!inode.has(EXT4_EXTENTS_FL)) {
    for (; first < end; ++first) RETURN_IF_ERROR(unmap_indirect(inode, first));
    return {};
  }
  ExtentTree tree(volume_, blocks_, inode);
  while (first < end) {
    ASSIGN_OR_RETURN(const Mapping here, find_extent(inode, first));
    const std::uint64_t to = std::min(end, here.end());
    if (here.kind != Mapping::Kind::kHole) RETURN_IF_ERROR(take_out(tree, first, to));
    first = to;
  }
  return {};
}

Result<void> ExtentMap::take_out(ExtentTree& tree, std::uint64_t first, std::uint64_t end) {
  RETURN_IF_ERROR(tree.seek(first));
  const Mapping whole = *tree.found();  // NOLINT(bugprone-unchecked-optional-access): the caller has looked
  std::vector<Mapping> kept;
  if (whole.logical < first) kept.push_back(part_of(whole, whole.logical, first, whole.kind));
  if (end < whole.end()) kept.push_back(part_of(whole, end, whole.end(), whole.kind));
  return tree.replace(kept);
}

Result<void> ExtentMap::write_map(const Inode& inode, Result<void> done) {
  const auto written =
      volume_.write_inode(inode.number, std::as_const(inode).bytes().first(EXT2_GOOD_OLD_INODE_SIZE));
  return done ? written : done;
}

Result<void> ExtentMap::insert_extents(Inode& inode, Mapping extents, std::uint64_t& mapped) {
  ExtentTree tree(volume_, blocks_, inode);
  const std::uint64_t whole_clusters =
      longest_extent(extents.kind) & ~(std::uint64_t{volume_.cluster_blocks()} - 1);
  // There are clusters that are longer.
  const std::uint64_t longest = whole_clusters != 0 ? whole_clusters : longest_extent(extents.kind);
  while (extents.count > 0) {
    Mapping piece = extents;
    piece.count = std::min(extents.count, longest);
    RETURN_IF_ERROR(tree.insert(piece));
    mapped += piece.count;
    extents.logical += piece.count;
    extents.physical += piece.count;
    extents.count -= piece.count;
  }
  return {};
}

Result<void> ExtentMap::convert(Inode& inode, std::uint64_t first, std::uint64_t count, Mapping::Kind kind,
                                Handles handles) {
  return write_map(inode, convert_extents(inode, first, first + count, kind, handles));
}

Result<void> ExtentMap::convert_extents(Inode& inode, std::uint64_t first, std::uint64_t end,
                                        Mapping::Kind kind, Handles handles) {
  ExtentTree tree(volume_, blocks_, inode);
  std::uint64_t freed = 0;
  unsigned extents = 0;
  while (first < end) {
    if (!goes_on(handles, extents)) RETURN_IF_ERROR(begin_anew(inode, kExtentBlocks, freed));
    ASSIGN_OR_RETURN(const Mapping here, find_extent(inode, first));
    const std::uint64_t to = std::min(end, here.end());
    if (here.kind != Mapping::Kind::kHole && here.kind != kind) {
      RETURN_IF_ERROR(tree.seek(first));
      const Mapping whole = *tree.found();
      std::vector<Mapping> pieces;
      if (whole.logical < first) pieces.push_back(part_of(whole, whole.logical, first, whole.kind));
      for (std::uint64_t from = first; from < to; from = pieces.back().end())
        pieces.push_back(part_of(whole, from, std::min(to, from + longest_extent(kind)), kind));
      if (to < whole.end()) pieces.push_back(part_of(whole, to, whole.end(), whole.kind));
      RETURN_IF_ERROR(tree.replace(pieces));
    }
    first = to;
  }
  return {};
}

bool ExtentMap::goes_on(Handles handles, unsigned& extents) {
  const auto& journal = volume_.journal();
  const bool has_room = volume_.journal().ensure(credits::of_map);
  if (handles == Handles::kOne) return true;
  if (has_room && extents < LongWork::kExtents && journal.used().blocks < LongWork::kBlocks) {
    ++extents;
    return true;
  }
  extents = 1;
  return false;
}

// A write-back may come between, and after it a crash: the file is then as if it had been cut, or filled, to
// here and no farther.
Result<void> ExtentMap::begin_anew(Inode& inode, std::uint64_t end, std::uint64_t& freed) {
  volume_.uncount_blocks(inode, std::exchange(freed, 0));
  Inode before;
  RETURN_IF_ERROR(volume_.read_inode(inode.number, before.bytes()));
  Inode shown = inode;
  shown.set_size(std::max(inode.size(), std::min(before.size(), end << volume_.block_bits())));
  RETURN_IF_ERROR(volume_.write_inode(shown));
  volume_.journal().restart(credits::of_map, [&] {
    if (volume_.wants_write_back()) (void)volume_.write_back();
  });
  return {};
}

Result<void> ExtentMap::collapse(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles) {
  return write_map(inode, shift_left(inode, first, count, handles));
}

// A leaf a step, from the first one on: no two extents ever meet.
Result<void> ExtentMap::shift_left(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles) {
  ExtentTree tree(volume_, blocks_, inode);
  std::uint64_t freed = 0;
  unsigned leaves = 0;
  for (std::uint64_t next = first + count; next < kExtentBlocks;) {
    ASSIGN_OR_RETURN(const Mapping here, find_extent(inode, next));
    if (here.kind == Mapping::Kind::kHole) {
      next = here.end();
      continue;
    }
    if (!goes_on(handles, leaves)) RETURN_IF_ERROR(begin_anew(inode, kExtentBlocks, freed));
    RETURN_IF_ERROR(tree.seek(next));
    const std::uint64_t behind = tree.end_of_leaf();
    RETURN_IF_ERROR(tree.shift(next, count, ExtentTree::Direction::kLeft));
    next = behind;
  }
  // Where both sides met.
  if (!goes_on(handles, leaves)) RETURN_IF_ERROR(begin_anew(inode, kExtentBlocks, freed));
  RETURN_IF_ERROR(tree.seek(first));
  const auto met = tree.found();
  return met && met->logical == first ? tree.replace(std::span(&*met, 1)) : Result<void>();
}

Result<void> ExtentMap::insert_hole(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles) {
  return write_map(inode, shift_right(inode, first, count, handles));
}

Result<void> ExtentMap::shift_right(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles) {
  ExtentTree tree(volume_, blocks_, inode);
  RETURN_IF_ERROR(tree.seek(kExtentBlocks - 1));
  const auto last = tree.found();
  if (!last || last->end() <= first) return {};
  if (last->end() + count > block_limit(inode)) return fail(EINVAL);
  RETURN_IF_ERROR(tree.split_at(first));
  std::uint64_t freed = 0;
  unsigned leaves = 0;
  for (std::uint64_t end = kExtentBlocks; end > first;) {
    RETURN_IF_ERROR(tree.seek(end - 1));
    const auto found = tree.found();
    if (!found || found->logical < first) return {};
    if (!goes_on(handles, leaves)) {
      RETURN_IF_ERROR(begin_anew(inode, kExtentBlocks, freed));
      RETURN_IF_ERROR(tree.seek(end - 1));
    }
    end = std::max(first, tree.begin_of_leaf());
    RETURN_IF_ERROR(tree.shift(first, count, ExtentTree::Direction::kRight));
  }
  return {};
}

Result<void> ExtentMap::truncate(Inode& inode, std::uint64_t first, Handles handles) {
  if (!inode.has_blocks_map()) return {};
  if (inode.has(EXT4_EXTENTS_FL)) return truncate_extents(inode, first, handles);
  const std::uint64_t end = block_limit(inode);
  return first < end ? remove(inode, first, end - first, handles) : Result<void>();
}

// Each round shortens the map by an extent, from its end.
Result<void> ExtentMap::truncate_extents(Inode& inode, std::uint64_t first, Handles handles) {
  std::uint64_t freed = 0;
  const auto done = cut_end(inode, first, handles, freed);
  volume_.uncount_blocks(inode, freed);
  return write_map(inode, done);
}

Result<void> ExtentMap::cut_end(Inode& inode, std::uint64_t first, Handles handles, std::uint64_t& freed) {
  ExtentTree tree(volume_, blocks_, inode);
  unsigned extents = 0;
  Result<void> lost;
  while (true) {
    RETURN_IF_ERROR(tree.seek(kExtentBlocks - 1));
    const auto last = tree.found();
    if (!last || last->end() <= first) return lost;
    if (!goes_on(handles, extents)) {
      RETURN_IF_ERROR(begin_anew(inode, last->end(), freed));
      extents = 0;
      continue;
    }
    const std::uint64_t from = std::max(first, last->logical);
    std::vector<Mapping> kept;
    if (last->logical < from) kept.push_back(part_of(*last, last->logical, from, last->kind));
    RETURN_IF_ERROR(tree.replace(kept));
    const Mapping gone = part_of(*last, from, last->end(), last->kind);
    ASSIGN_OR_RETURN(const std::uint64_t clusters,
                     free_extent(inode, gone.logical, gone.physical, gone.count, lost));
    freed += clusters;
  }
}

Result<void> ExtentMap::remove(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles) {
  if (!inode.has_blocks_map() || count == 0) return {};
  std::uint64_t freed = 0;
  const auto removed = inode.has(EXT4_EXTENTS_FL)
                           ? remove_extents(inode, first, first + count, handles, freed)
                           : remove_indirect(inode, first, first + count, handles, freed);
  volume_.uncount_blocks(inode, freed);
  return write_map(inode, removed);
}

Result<void> ExtentMap::remove_extents(Inode& inode, std::uint64_t first, std::uint64_t end, Handles handles,
                                       std::uint64_t& freed) {
  ExtentTree tree(volume_, blocks_, inode);
  unsigned extents = 0;
  Result<void> lost;
  while (first < end) {
    if (!goes_on(handles, extents)) RETURN_IF_ERROR(begin_anew(inode, kExtentBlocks, freed));
    ASSIGN_OR_RETURN(const Mapping here, find_extent(inode, first));
    const std::uint64_t to = std::min(end, here.end());
    if (here.kind != Mapping::Kind::kHole) {
      RETURN_IF_ERROR(take_out(tree, first, to));
      ASSIGN_OR_RETURN(const std::uint64_t gone, free_extent(inode, first, here.physical, to - first, lost));
      freed += gone;
    }
    first = to;
  }
  return lost;
}

// They are unmapped already. Answers how many clusters went: one that also holds other blocks of the file
// stays. What a damaged group does not take back is `lost`, and gone all the same.
Result<std::uint64_t> ExtentMap::free_extent(Inode& inode, std::uint64_t logical, std::uint64_t physical,
                                             std::uint64_t count, Result<void>& lost) {
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
  if (auto given = give_back(inode, {begin, end - begin}); !given) {
    if (given.error() != kCorrupted) return fail(given.error());
    lost = std::move(given);
  }
  return (end - begin) / cluster;
}

// What all inodes hold but files was changed as metadata; of files, the values of extended attributes.
Result<void> ExtentMap::give_back(const Inode& inode, BlockRun run) {
  RETURN_IF_ERROR(blocks_.give_back(run, inode.number));
  if (!inode.is_regular() || inode.has(EXT4_EA_INODE_FL)) volume_.journal().revoke(run.first, run.count);
  return {};
}

Result<std::uint64_t> ExtentMap::implied_block(const Inode& inode, std::uint64_t logical) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  if (cluster == 1) return 0;
  const std::uint64_t inside = logical & (cluster - 1);
  ASSIGN_OR_RETURN(const auto parts, map(inode, logical - inside, cluster));
  for (const Mapping& part : parts) {
    if (part.kind != Mapping::Kind::kHole) return (part.physical & ~(cluster - 1)) + inside;
  }
  return 0;
}

Result<void> ExtentMap::add_blocks(Inode& inode, std::uint64_t clusters) {
  return volume_.count_blocks(inode, clusters);
}

}  // namespace fuse4fs::ext4
