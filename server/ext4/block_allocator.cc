// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_allocator.h"

#include <fmt/format.h>

#include <algorithm>

namespace fuse4fs::ext4 {
namespace {

// How many runs that are too short are passed over before the longest of them is taken.
constexpr int kPatience = 32;

}  // namespace

BlockRun BlockAllocator::next_free_run(std::uint64_t from, std::uint64_t end, std::uint64_t most) {
  auto* const map = volume_.fs()->block_map;
  blk64_t first = 0;
  if (from >= end || ext2fs_find_first_zero_block_bitmap2(map, from, end - 1, &first) != 0) return {};
  const std::uint64_t limit = std::min<std::uint64_t>(end, first + most);
  blk64_t behind = limit;
  if (ext2fs_find_first_set_block_bitmap2(map, first, limit - 1, &behind) != 0) behind = limit;
  return {first, behind - first};
}

BlockRun BlockAllocator::next_usable_run(std::uint64_t from, std::uint64_t end, std::uint64_t most) {
  while (true) {
    BlockRun run = next_free_run(from, end, most);
    if (run.count == 0) return run;
    const auto usable = volume_.order().unreleased().first_free(run.first, run.first + run.count);
    if (usable.first < usable.end) return {usable.first, usable.end - usable.first};
    from = run.first + run.count;
  }
}

Result<BlockRun> BlockAllocator::take(std::uint64_t goal, std::uint64_t most) {
  return take(goal, most, kept_blocks());
}

Result<BlockRun> BlockAllocator::take_for_map(std::uint64_t goal) {
  volume_.order().note_tree_grew();
  return take(goal, volume_.cluster_blocks(), 0);
}

Result<BlockRun> BlockAllocator::take(std::uint64_t goal, std::uint64_t most, std::uint64_t kept) {
  const auto library = volume_.library();
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t begin = volume_.super().s_first_data_block;
  const std::uint64_t end = volume_.blocks();
  if (goal < begin || goal >= end) goal = begin;
  goal &= ~(cluster - 1);
  const std::uint64_t free = usable_blocks();
  if (free < kept + cluster) return fail(ENOSPC);
  most = std::min(std::max(cluster, (most + cluster - 1) & ~(cluster - 1)), (free - kept) & ~(cluster - 1));
  BlockRun best;
  int passed = 0;
  const auto search = [&](std::uint64_t from, std::uint64_t to) {
    while (from < to && passed < kPatience) {
      BlockRun run = next_usable_run(from, to, most);
      if (run.count == 0) return;
      from = run.first + run.count;
      // With clusters the bitmap answers for blocks: keep to whole ones.
      const std::uint64_t aligned = (run.first + cluster - 1) & ~(cluster - 1);
      run.count = run.first + run.count > aligned
                      ? (run.first + run.count - aligned + cluster - 1) & ~(cluster - 1)
                      : 0;
      run.first = aligned;
      if (run.count > best.count) best = run;
      if (best.count >= most) return;
      ++passed;
    }
  };
  search(std::max(goal, begin), end);
  if (best.count == 0) passed = 0;
  if (best.count < most) search(begin, std::min(end, goal));
  if (best.count == 0) return fail(ENOSPC);
  // The cluster at the volume's end may be cut short.
  best.count = std::min(best.count, most);
  const std::uint64_t inside = std::min(best.count, end - best.first);
  if (!volume_.may_be_owned(best.first, inside))
    return fail(volume_.corrupted(0, best.first, "the bitmap calls the volume's own blocks free"));
  volume_.order().note_taken(best.first, inside);
  for (std::uint64_t block = best.first; block < best.first + best.count; block += cluster) {
    if (cluster > 1 || inside < best.count) ext2fs_block_alloc_stats2(volume_.fs(), block, +1);
  }
  if (cluster == 1)
    ext2fs_block_alloc_stats_range(volume_.fs(), best.first, static_cast<blk_t>(best.count), +1);
  return best;
}

Result<void> BlockAllocator::give_back(BlockRun run, InodeNumber owner) {
  const auto library = volume_.library();
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t inside =
      run.first < volume_.blocks() ? std::min(run.count, volume_.blocks() - run.first) : 0;
  if (inside == 0 || !volume_.may_be_owned(run.first, inside))
    return fail(volume_.corrupted(owner, run.first, "a file owns blocks that it cannot"));
  auto* const fs = volume_.fs();
  blk64_t unused = 0;
  if (ext2fs_find_first_zero_block_bitmap2(fs->block_map, run.first, run.first + inside - 1, &unused) == 0)
    return fail(volume_.corrupted(owner, unused, "a block that a file owns is marked free"));
  volume_.note_freed(run.first, run.count);
  if (keeper_) {
    keeper_(run);
    return {};
  }
  if (cluster == 1) {
    ext2fs_block_alloc_stats_range(fs, run.first, static_cast<blk_t>(run.count), -1);
  } else {
    for (std::uint64_t block = run.first; block < run.first + inside; block += cluster)
      ext2fs_block_alloc_stats2(fs, block, -1);
  }
  return {};
}

std::vector<BlockRun> BlockAllocator::take_free(BlockRun run) {
  const auto library = volume_.library();
  auto* const fs = volume_.fs();
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t end = std::min(run.first + run.count, volume_.blocks());
  std::vector<BlockRun> taken;
  if (cluster == 1) {
    for (std::uint64_t from = run.first; from < end;) {
      const BlockRun free = next_free_run(from, end, end - from);
      if (free.count == 0) break;
      ext2fs_block_alloc_stats_range(fs, free.first, static_cast<blk_t>(free.count), +1);
      taken.push_back(free);
      from = free.first + free.count;
    }
    return taken;
  }
  for (std::uint64_t first = run.first & ~(cluster - 1); first < end; first += cluster) {
    if (ext2fs_test_block_bitmap2(fs->block_map, first) != 0) continue;
    ext2fs_block_alloc_stats2(fs, first, +1);
    taken.push_back({first, cluster});
  }
  return taken;
}

std::uint64_t BlockAllocator::free_blocks() {
  const auto library = volume_.library();
  return ext2fs_free_blocks_count(volume_.fs()->super);
}

std::uint64_t BlockAllocator::usable_blocks() {
  const std::uint64_t free = free_blocks();
  return free - std::min(free, volume_.order().unreleased().blocks());
}

std::uint64_t BlockAllocator::kept_blocks() const {
  constexpr std::uint64_t kKeptFraction = 50, kMostKept = 4096;
  if (!volume_.has_extents()) return 0;
  return std::min(volume_.blocks() / volume_.cluster_blocks() / kKeptFraction, kMostKept) *
         volume_.cluster_blocks();
}

}  // namespace fuse4fs::ext4
