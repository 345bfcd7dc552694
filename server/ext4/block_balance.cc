// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/block_balance.h"

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

}  // namespace fuse4fs::ext4
