// SPDX-License-Identifier: GPL-2.0-or-later
// How many files more, or fewer, own a block than the bitmap knew of: kept while a replay moves blocks
// between files in an order that says nothing, and settled at its end.
//
// In blocks, whole clusters. Memory: two numbers for each run that was added, however long. No lock.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "server/ext4/block_allocator.h"

namespace fuse4fs::ext4 {

class BlockBalance {
 public:
  // Marked free, and taken out of the bitmap's free ones: nobody's until a file takes it.
  void add_nobodys(BlockRun run) { add(run, -1); }
  void add_taken(BlockRun run) { add(run, +1); }
  void add_dropped(BlockRun run) { add(run, -1); }

  struct Part {
    BlockRun run;
    int owners = 1;  // 0: nobody's; 1: as it should be; more, or below 0: cannot be
  };
  // In order; only those that do not have exactly one owner.
  [[nodiscard]] std::vector<Part> unsettled() const;

 private:
  void add(BlockRun run, int change);

  // By block: how the number of owners changes from this block on.
  std::map<std::uint64_t, int> steps_;
};

// The blocks of a balance that have more than one owner, found by block, and fewer as files let go of them.
class SharedBlocks {
 public:
  explicit SharedBlocks(const BlockBalance& balance);

  [[nodiscard]] bool empty() const { return runs_.empty(); }
  [[nodiscard]] std::vector<BlockRun> all() const;
  // What of the run is shared, in order. Costs what it answers.
  [[nodiscard]] std::vector<BlockRun> inside(BlockRun run) const;
  // One owner fewer.
  void drop(BlockRun run);

 private:
  struct Shared {
    std::uint64_t end;
    int owners;
  };
  using Runs = std::map<std::uint64_t, Shared>;  // by their first blocks, apart
  [[nodiscard]] Runs::const_iterator first_behind(std::uint64_t block) const;
  void split(std::uint64_t block);

  Runs runs_;
};

}  // namespace fuse4fs::ext4
