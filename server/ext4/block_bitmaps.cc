// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_bitmaps.h"

#include <algorithm>
#include <utility>

#include "server/ext4/bitmap_bits.h"
#include "server/ext4/errors.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::string_view kOwnFree = "calls the volume's own blocks free";
constexpr std::string_view kUsedFree = "calls a block free that is in use";

}  // namespace

BlockBitmaps::BlockBitmaps(Volume& volume, GroupDescriptors& groups)
    : volume_(volume),
      groups_(groups),
      cluster_bits_(groups.cluster_bits()),
      first_block_(volume.super().s_first_data_block),
      per_group_(volume.super().s_blocks_per_group),
      end_(volume.blocks()),
      blocks_(volume, groups, GroupBitmaps::Kind::kBlocks, volume.super().s_clusters_per_group) {
  blocks_.set_judge(
      [this](GroupNumber group, std::span<const std::byte> bytes) { return has_own(group, bytes); });
}

GroupNumber BlockBitmaps::group_of(std::uint64_t block) const {
  return static_cast<GroupNumber>((block - first_block_) / per_group_);
}

BlockRun BlockBitmaps::blocks_of(GroupNumber group) const {
  const std::uint64_t first = first_block_ + group * per_group_;
  return {first, std::min(per_group_, end_ - first)};
}

BlockRun BlockBitmaps::first_part(BlockRun run) const {
  return {run.first, std::min(run.end(), blocks_of(group_of(run.first)).end()) - run.first};
}

std::size_t BlockBitmaps::bit_of(std::uint64_t block) const {
  return ((block - first_block_) % per_group_) >> cluster_bits_;
}

std::uint64_t BlockBitmaps::block_of(GroupNumber group, std::size_t bit) const {
  return first_block_ + group * per_group_ + (std::uint64_t{bit} << cluster_bits_);
}

std::size_t BlockBitmaps::behind(BlockRun run) const {
  return run.count == 0 ? 0 : bit_of(run.end() - 1) + 1;
}

void BlockBitmaps::mark_own(GroupNumber group, std::span<std::byte> bytes) const {
  const BlockRun all = blocks_of(group);
  volume_.for_own_structures(all.first, all.end(), [&](std::uint64_t first, std::uint64_t end) {
    bits::set(bytes, bit_of(first), bit_of(end - 1) + 1);
  });
}

bool BlockBitmaps::has_own(GroupNumber group, std::span<const std::byte> bytes) const {
  bool has_all = true;
  const BlockRun all = blocks_of(group);
  volume_.for_own_structures(all.first, all.end(), [&](std::uint64_t first, std::uint64_t end) {
    const auto behind = bit_of(end - 1) + 1;
    if (bits::first_zero(bytes, bit_of(first), behind) != behind) has_all = false;
  });
  return has_all;
}

Result<void> BlockBitmaps::look(GroupNumber group, const Look& see) {
  if (groups_.has_no_blocks(group)) {
    std::vector<std::uint64_t> words(volume_.block_size() / sizeof(std::uint64_t));
    const auto bytes = std::as_writable_bytes(std::span(words));
    mark_own(group, bytes);
    see(bytes);
    return {};
  }
  ASSIGN_OR_RETURN(const auto buffer, blocks_.get(group));
  see(buffer.bytes());
  return {};
}

Result<void> BlockBitmaps::begin(GroupNumber group) {
  if (!groups_.has_no_blocks(group)) return {};
  ASSIGN_OR_RETURN(auto* const buffer, blocks_.hold_new(group, bits_of(group)));
  {
    ASSIGN_OR_RETURN(const auto change, blocks_.change(group, *buffer));
    mark_own(group, change.bytes());
  }
  groups_.set_free_clusters(
      group, static_cast<std::uint32_t>(bits::count_zeros(buffer->bytes(), 0, bits_of(group))));
  groups_.begin_blocks(group);
  return {};
}

Result<cache::Buffer*> BlockBitmaps::open(GroupNumber group) {
  if (blocks_.is_damaged(group)) return fail(kCorrupted);
  RETURN_IF_ERROR(begin(group));
  return blocks_.hold(group);
}

Result<bool> BlockBitmaps::in_use(std::uint64_t block) {
  ASSIGN_OR_RETURN(const auto unused, first_unused({block, 1}));
  return !unused;
}

Result<std::optional<std::uint64_t>> BlockBitmaps::first_unused(BlockRun run) {
  // What lies outside has no bits.
  if (run.end() > volume_.blocks()) return std::max(run.first, volume_.blocks());
  std::optional<std::uint64_t> unused;
  const auto look_at = [&](GroupNumber group, BlockRun part) -> Result<void> {
    if (unused) return {};
    std::size_t free = 0;
    const auto see = [&](std::span<const std::byte> bytes) {
      free = bits::first_zero(bytes, bit_of(part.first), behind(part));
    };
    const auto lock = groups_.lock_shared(group);
    RETURN_IF_ERROR(look(group, see));
    if (!blocks_.is_doubted(group) && free != behind(part))
      unused = std::max(part.first, block_of(group, free));
    return {};
  };
  RETURN_IF_ERROR(in_each_group(run, look_at));
  return unused;
}

// As much of the run as is left to this one, from its beginning.
Result<BlockRun> BlockBitmaps::take_here(GroupNumber group, cache::Buffer& buffer, BlockRun run,
                                         std::uint64_t kept) {
  if (!volume_.may_be_owned(run.first, run.count)) return fail(blocks_.corrupted(group, kOwnFree));
  if (const auto used = volume_.cache().first_cached(run.first, run.count))
    return fail(blocks_.corrupted(group, kUsedFree, used->role.owner, used->block));
  const std::size_t first = bit_of(run.first);
  const auto claimed = groups_.claim_clusters(behind(run) - first, kept >> cluster_bits_);
  run.count = std::min(run.count, claimed << cluster_bits_);
  if (run.count == 0) return run;
  const auto change = blocks_.change(group, buffer);
  if (!change) {
    groups_.return_claim(claimed);
    return fail(change.error());
  }
  volume_.order().note_taken(run.first, run.count);
  bits::set(change->bytes(), first, behind(run));
  groups_.note_clusters_taken(group, claimed, claimed);
  return run;
}

Result<BlockRun> BlockBitmaps::next_free(BlockRun where) {
  BlockRun found;
  const GroupNumber group = group_of(where.first);
  RETURN_IF_ERROR(look(group, [&](std::span<const std::byte> bytes) {
    const auto end = behind(where);
    const auto first = bits::first_zero(bytes, bit_of(where.first), end);
    if (first == end) return;
    found.first = std::max(where.first, block_of(group, first));
    found.count = std::min(where.end(), block_of(group, bits::first_one(bytes, first, end))) - found.first;
  }));
  return found;
}

BlockRun BlockBitmaps::usable_part(BlockRun free, const Search& search) {
  while (free.count != 0) {
    const auto released = volume_.order().unreleased().first_free(free.first, free.end());
    const BlockRun part =
        volume_.reservations().first_free({released.first, released.end - released.first}, search.owner);
    // Windows may end inside of a cluster.
    const std::uint64_t cluster = std::uint64_t{1} << cluster_bits_;
    const std::uint64_t first =
        ((part.first - first_block_ + cluster - 1) >> cluster_bits_ << cluster_bits_) + first_block_;
    if (first < part.end()) return {first, part.end() - first};
    free = {part.end(), free.end() - std::min(part.end(), free.end())};
  }
  return free;
}

Result<BlockRun> BlockBitmaps::take_first(BlockRun where, Search& search) {
  const GroupNumber group = group_of(where.first);
  const auto lock = groups_.lock(group);
  ASSIGN_OR_RETURN(auto* const buffer, open(group));
  const auto end = behind(where);
  const std::size_t most = std::max<std::size_t>(search.most >> cluster_bits_, 1);
  // Nobody looks through many groups for one that is all free.
  const std::size_t enough =
      std::min<std::size_t>(most, std::max<std::uint64_t>(per_group_ >> cluster_bits_ >> 3, 1));
  const bool to_the_end = where.end() == blocks_of(group).end();
  for (std::size_t next = bit_of(where.first); search.patience > 0;) {
    const auto first = bits::first_zero(buffer->bytes(), next, end);
    if (first == end) break;
    // To its real end, so that what cannot be had is passed over in one step.
    next = bits::first_one(buffer->bytes(), first, end);
    const std::uint64_t block = block_of(group, first);
    const std::uint64_t behind_run = std::min(block_of(group, next), end_);
    BlockRun run = usable_part({block, behind_run - block}, search);
    if (run.count == 0) continue;
    run.count = std::min(run.count, std::uint64_t{most} << cluster_bits_);
    if (run.end() < behind_run) next = bit_of(run.end());
    if (run.count > search.best.count) search.best = run;
    // From the goal to its group's end: the next run may go on there.
    const bool goes_on = run.first == where.first && to_the_end && run.end() == where.end();
    const bool is_next = run.first == search.goal && run.count >= search.wanted;
    if (goes_on || is_next || behind(run) - bit_of(run.first) >= enough) {
      run.count = std::min(run.count, search.wanted);
      return take_here(group, *buffer, run, search.kept);
    }
    --search.patience;
  }
  return BlockRun{};
}

Result<BlockRun> BlockBitmaps::take_best(const Search& search) {
  BlockRun run = search.best;
  const GroupNumber group = group_of(run.first);
  const auto lock = groups_.lock(group);
  ASSIGN_OR_RETURN(auto* const buffer, open(group));
  const auto first = bit_of(run.first);
  const auto free = bits::first_one(buffer->bytes(), first, behind(run));
  if (free == first) return BlockRun{};
  const std::uint64_t end = std::min(run.end(), block_of(group, free));
  const BlockRun usable = usable_part({run.first, end - run.first}, search);
  if (usable.first != run.first || usable.count == 0) return BlockRun{};
  return take_here(group, *buffer, {usable.first, std::min(usable.count, search.wanted)}, search.kept);
}

Result<std::vector<BlockRun>> BlockBitmaps::take_free(BlockRun run) {
  std::vector<BlockRun> taken;
  const auto take = [&](GroupNumber group, BlockRun part) -> Result<void> {
    const auto lock = groups_.lock(group);
    ASSIGN_OR_RETURN(auto* const buffer, open(group));
    for (std::size_t bit = bit_of(part.first); bit < behind(part);) {
      const auto first = bits::first_zero(buffer->bytes(), bit, behind(part));
      if (first == behind(part)) break;
      bit = bits::first_one(buffer->bytes(), first, behind(part));
      const std::uint64_t block = block_of(group, first);
      const BlockRun free{block, std::min(block_of(group, bit), end_) - block};
      if (!volume_.may_be_owned(free.first, free.count)) return fail(blocks_.corrupted(group, kOwnFree));
      ASSIGN_OR_RETURN(const auto change, blocks_.change(group, *buffer));
      volume_.order().note_taken(free.first, free.count);
      bits::set(change.bytes(), first, bit);
      // The figures may be of another time than the bits: all of it is taken whatever they say.
      groups_.note_clusters_taken(group, bit - first, groups_.claim_clusters(bit - first, 0));
      taken.push_back(free);
    }
    return {};
  };
  RETURN_IF_ERROR(in_each_group(run, take));
  return taken;
}

Errno BlockBitmaps::found_free(std::uint64_t block, InodeNumber owner) {
  return volume_.corrupted(owner, block, "a block that a file owns is marked free");
}

Errno BlockBitmaps::distrust(std::uint64_t block, InodeNumber owner) {
  return blocks_.corrupted(group_of(block), kUsedFree, owner, block);
}

Result<void> BlockBitmaps::check_in_use(BlockRun run, InodeNumber owner) {
  ASSIGN_OR_RETURN(const auto unused, first_unused(run));
  if (unused) return fail(found_free(*unused, owner));
  return {};
}

Result<void> BlockBitmaps::give_back(BlockRun run, InodeNumber owner) {
  // One in several groups is under no lock as a whole.
  if (first_part(run).count != run.count) RETURN_IF_ERROR(check_in_use(run, owner));
  const auto clear = [&](GroupNumber group, BlockRun part) -> Result<void> {
    const auto lock = groups_.lock(group);
    if (groups_.has_no_blocks(group)) return fail(found_free(part.first, owner));
    ASSIGN_OR_RETURN(auto* const buffer, blocks_.hold(group));
    const auto first = bit_of(part.first);
    if (const auto free = bits::first_zero(buffer->bytes(), first, behind(part)); free != behind(part))
      return fail(found_free(std::max(part.first, block_of(group, free)), owner));
    ASSIGN_OR_RETURN(const auto change, blocks_.change(group, *buffer));
    // Before anybody can find them.
    volume_.note_freed(group, part);
    bits::clear(change.bytes(), first, behind(part));
    groups_.note_clusters_freed(group, behind(part) - first);
    return {};
  };
  return in_each_group(run, [&](GroupNumber group, BlockRun part) -> Result<void> {
    RETURN_IF_ERROR(clear(group, part));
    // May wait for a write of one of them, so not under the group's lock. Nobody gets them before the next
    // write-back, which waits for the caller's handle.
    volume_.journal().forget(part.first, part.count);
    return {};
  });
}

Result<std::uint32_t> BlockBitmaps::count_free(GroupNumber group) {
  std::uint32_t free = 0;
  RETURN_IF_ERROR(look(group, [&](std::span<const std::byte> bytes) {
    free = static_cast<std::uint32_t>(bits::count_zeros(bytes, 0, bits_of(group)));
  }));
  return free;
}

}  // namespace fuse4fs::ext4
