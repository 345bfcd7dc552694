// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_allocator.h"

#include <algorithm>

#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

// How many runs that are too short are passed over before the longest of them is taken.
constexpr int kPatience = 32;
// What was found may be gone before it is taken.
constexpr int kTries = 16;
// Of what is free a window gets no more than this part, or few files would leave nothing to others.
constexpr std::uint64_t kLargestShare = 32;

}  // namespace

// The volume's last cluster may be cut short, but has an owner as a whole.
BlockRun BlockAllocator::whole(BlockRun run) const {
  const std::uint64_t cluster = volume_.cluster_blocks();
  return {run.first, (run.count + cluster - 1) & ~(cluster - 1)};
}

Result<BlockRun> BlockAllocator::take(const Request& request) {
  return take(request, kept_for(request.reserve));
}

BlockAllocator::Request::Reserve BlockAllocator::reserve_for(const Inode& inode) const {
  const Caller who = inode.caller.value_or(Caller{inode.uid(), inode.gid()});
  const auto& super = volume_.super();
  // As the kernel: group 0 would be most daemons'.
  const bool is_named =
      who.uid == super.s_def_resuid || (super.s_def_resgid != 0 && who.gid == super.s_def_resgid);
  return who.uid == 0 || is_named ? Request::Reserve::kOpen : Request::Reserve::kKept;
}

std::uint64_t BlockAllocator::reserved_blocks() const {
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t reserved =
      std::min<std::uint64_t>(ext2fs_r_blocks_count(volume_.super_pointer()), volume_.blocks());
  return reserved & ~(cluster - 1);
}

Result<BlockRun> BlockAllocator::take_for_map(std::uint64_t goal) {
  volume_.order().note_tree_grew();
  return take({.goal = goal, .most = volume_.cluster_blocks()}, 0);
}

Result<BlockRun> BlockAllocator::take(const Request& request, std::uint64_t kept) {
  auto taken = find_and_take(request, kept);
  if (!taken && taken.error() == Errno(ENOSPC)) refusals_.fetch_add(1, std::memory_order_relaxed);
  return taken;
}

Result<BlockRun> BlockAllocator::find_and_take(const Request& request, std::uint64_t kept) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  const auto up = [&](std::uint64_t blocks) { return (blocks + cluster - 1) & ~(cluster - 1); };
  const std::uint64_t begin = volume_.super().s_first_data_block;
  std::uint64_t goal = request.goal;
  if (goal < begin || goal >= volume_.blocks()) goal = begin;
  goal = std::max(goal & ~(cluster - 1), begin);
  auto& windows = volume_.reservations();
  for (int tried = 0; tried < kTries; ++tried) {
    const std::uint64_t free = usable_blocks();
    if (free < kept + cluster) return fail(ENOSPC);
    const std::uint64_t most = (free - kept) & ~(cluster - 1);
    const std::uint64_t ahead = up(std::min(request.ahead, free / kLargestShare));
    BlockBitmaps::Search wish{.wanted = std::min(std::max(cluster, up(request.most)), most),
                              .kept = kept + volume_.order().unreleased().blocks(),
                              .goal = goal,
                              .owner = request.owner,
                              .patience = kPatience};
    // What is left of its own window comes first, however little.
    if (const auto rest = windows.rest(request.owner, goal); request.owner != 0 && rest.count != 0)
      wish.wanted = std::min(wish.wanted, up(rest.count));
    wish.most = std::min(wish.wanted + ahead, most);
    auto run = search(wish);
    if (!run && windows.forget_all()) continue;
    RETURN_IF_ERROR(run);
    if (run->count == 0) continue;  // somebody else was faster
    if (ahead != 0) windows.take(request.owner, whole(*run), ahead);
    return whole(*run);
  }
  return fail(ENOSPC);
}

Result<BlockRun> BlockAllocator::search(const BlockBitmaps::Search& wish) {
  BlockBitmaps::Search search = wish;
  ASSIGN_OR_RETURN(const BlockRun run, search_from(search.goal, search));
  if (run.count != 0) return run;
  auto best = volume_.block_bitmaps().take_best(search);
  // Its group turned out to be damaged, and is passed over from now on.
  if (!best && best.error() == kCorrupted) return BlockRun{};
  return best;
}

// The goal's group from there on, the others, and what lies before the goal.
Result<BlockRun> BlockAllocator::search_from(std::uint64_t goal, BlockBitmaps::Search& search) {
  auto& bitmaps = volume_.block_bitmaps();
  const auto& groups = volume_.groups();
  Errno error(ENOSPC);
  GroupNumber group = bitmaps.group_of(goal);
  for (GroupNumber tried = 0; tried <= groups.count() && search.patience > 0; ++tried) {
    BlockRun where = bitmaps.blocks_of(group);
    if (tried == 0) where = {goal, where.end() - goal};
    if (tried == groups.count()) where.count = goal - where.first;
    if (where.count != 0 && groups.free_clusters(group) != 0) {
      // Most find what they want where they begin: that is one bitmap.
      if (tried != 0)
        bitmaps.blocks().read_ahead(group, [&](auto next) { return groups.free_clusters(next) != 0; });
      const auto run = bitmaps.take_first(where, search);
      if (!run)
        error = run.error();
      else if (run->count != 0)
        return run;
    }
    group = group + 1 < groups.count() ? group + 1 : 0;
  }
  // What waits for its release may do, whatever a damaged group would have had.
  if (search.best.count == 0) return fail(volume_.order().unreleased().blocks() != 0 ? Errno(ENOSPC) : error);
  return BlockRun{};
}

Result<void> BlockAllocator::give_back(BlockRun run, InodeNumber owner) {
  auto& bitmaps = volume_.block_bitmaps();
  const std::uint64_t inside =
      run.first < volume_.blocks() ? std::min(run.count, volume_.blocks() - run.first) : 0;
  if (inside == 0 || !volume_.may_be_owned(run.first, inside))
    return fail(volume_.corrupted(owner, run.first, "a file owns blocks that it cannot"));
  if (!keeper_) return bitmaps.give_back({run.first, inside}, owner);
  RETURN_IF_ERROR(bitmaps.check_in_use({run.first, inside}, owner));
  volume_.journal().forget(run.first, run.count);
  keeper_(run);
  return {};
}

Result<std::vector<BlockRun>> BlockAllocator::take_free(BlockRun run) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t end = std::min(run.first + run.count, volume_.blocks());
  const std::uint64_t first = run.first & ~(cluster - 1);
  if (first >= end) return std::vector<BlockRun>();
  ASSIGN_OR_RETURN(auto taken, volume_.block_bitmaps().take_free({first, end - first}));
  for (auto& one : taken) one = whole(one);
  return taken;
}

std::uint64_t BlockAllocator::free_blocks() {
  return volume_.groups().free_clusters() * volume_.cluster_blocks();
}

std::uint64_t BlockAllocator::usable_blocks() {
  const std::uint64_t free = free_blocks();
  return free - std::min(free, volume_.order().unreleased().blocks());
}

std::uint64_t BlockAllocator::usable_blocks(const Inode& inode) {
  const std::uint64_t usable = usable_blocks(), kept = kept_for(reserve_for(inode));
  return usable - std::min(usable, kept);
}

std::uint64_t BlockAllocator::kept_for(Request::Reserve reserve) const {
  return kept_blocks() + (reserve == Request::Reserve::kOpen ? 0 : reserved_blocks());
}

std::uint64_t BlockAllocator::kept_blocks() const {
  constexpr std::uint64_t kKeptFraction = 50, kMostKept = 4096;
  if (!volume_.has_extents()) return 0;
  return std::min(volume_.blocks() / volume_.cluster_blocks() / kKeptFraction, kMostKept) *
         volume_.cluster_blocks();
}

}  // namespace fuse4fs::ext4
