// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_balance.h"

#include <algorithm>
#include <iterator>

namespace fuse4fs::ext4 {

void BlockBalance::add(BlockRun run, int change) {
  if (run.count == 0) return;
  const auto step = [&](std::uint64_t at, int by) {
    const auto place = steps_.try_emplace(at, 0).first;
    place->second += by;
    if (place->second == 0) steps_.erase(place);
  };
  step(run.first, change);
  step(run.first + run.count, -change);
}

std::vector<BlockBalance::Part> BlockBalance::unsettled() const {
  std::vector<Part> parts;
  int owners = 1;
  std::uint64_t from = 0;
  for (const auto& [at, by] : steps_) {
    if (owners != 1 && at > from) parts.push_back({{from, at - from}, owners});
    owners += by;
    from = at;
  }
  return parts;
}

SharedBlocks::SharedBlocks(const BlockBalance& balance) {
  for (const auto& [run, owners] : balance.unsettled()) {
    if (owners > 1) runs_.emplace_hint(runs_.end(), run.first, Shared{run.first + run.count, owners});
  }
}

std::vector<BlockRun> SharedBlocks::all() const {
  std::vector<BlockRun> found;
  for (const auto& [first, shared] : runs_) found.push_back({first, shared.end - first});
  return found;
}

// The first run that ends behind the block.
SharedBlocks::Runs::const_iterator SharedBlocks::first_behind(std::uint64_t block) const {
  const auto next = runs_.upper_bound(block);
  return next != runs_.begin() && std::prev(next)->second.end > block ? std::prev(next) : next;
}

std::vector<BlockRun> SharedBlocks::inside(BlockRun run) const {
  const std::uint64_t end = run.first + run.count;
  std::vector<BlockRun> found;
  for (auto at = first_behind(run.first); at != runs_.end() && at->first < end; ++at) {
    const std::uint64_t first = std::max(at->first, run.first);
    found.push_back({first, std::min(at->second.end, end) - first});
  }
  return found;
}

// So that a run begins or ends there, if one goes across.
void SharedBlocks::split(std::uint64_t block) {
  const auto next = runs_.lower_bound(block);
  if (next == runs_.begin()) return;
  Shared& before = std::prev(next)->second;
  if (before.end <= block) return;
  runs_.emplace_hint(next, block, before);
  before.end = block;
}

void SharedBlocks::drop(BlockRun run) {
  const std::uint64_t end = run.first + run.count;
  split(run.first);
  split(end);
  for (auto at = runs_.lower_bound(run.first); at != runs_.end() && at->first < end;) {
    if (--at->second.owners < 2)
      at = runs_.erase(at);
    else
      ++at;
  }
}

}  // namespace fuse4fs::ext4
