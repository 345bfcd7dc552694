// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks and inode numbers that were freed, until their release is on the medium: before that nobody gets
// them. Or a power cut could leave them with two owners: a file that was truncated would show what was
// written to another one afterwards, a name would lead to an inode that was made after it was gone.
//
// In the bitmaps they are free, and they are counted as free; the allocators pass over them. Where nothing
// else is left, a write-back helps.
//
// Locking: any thread; one lock (rank kWriteOrder) for moments.
#pragma once

#include <cstdint>

#include "base/guarded.h"
#include "server/ext4/block_runs.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class Unreleased {
 public:
  void add_blocks(std::uint64_t first, std::uint64_t count) { state_.lock()->now.blocks.add(first, count); }
  void add_inode(InodeNumber number) { state_.lock()->now.inodes.add(number, 1); }

  // Of the blocks from `first` to before `end`: where those that may be given out begin, and where they end.
  struct Free {
    std::uint64_t first = 0, end = 0;
  };
  [[nodiscard]] Free first_free(std::uint64_t first, std::uint64_t end) {
    auto state = state_.lock();
    while (first < end) {
      const std::uint64_t behind = state->begun.blocks.behind(state->now.blocks.behind(first));
      if (behind == first) break;
      first = behind;
    }
    if (first >= end) return {end, end};
    return {first, std::min({end, state->now.blocks.next(first), state->begun.blocks.next(first)})};
  }
  // From this number on.
  [[nodiscard]] InodeNumber first_free_inode(InodeNumber number) {
    auto state = state_.lock();
    while (true) {
      const auto behind = state->begun.inodes.behind(state->now.inodes.behind(number));
      if (behind == number) return number;
      number = static_cast<InodeNumber>(behind);
    }
  }
  // Blocks that are in no bitmap's way, but are not to be had.
  [[nodiscard]] std::uint64_t blocks() {
    auto state = state_.lock();
    return state->now.blocks.count() + state->begun.blocks.count();
  }
  [[nodiscard]] bool is_empty() {
    auto state = state_.lock();
    return state->now.is_empty() && state->begun.is_empty();
  }

  // A write-back begins, which has all of their releases so far.
  void begin() {
    auto state = state_.lock();
    state->begun.blocks.add(state->now.blocks);
    state->begun.inodes.add(state->now.inodes);
    state->now.clear();
  }
  // It is on the medium. A failure is no call: they wait for the next one.
  void release() { state_.lock()->begun.clear(); }

 private:
  struct Freed {
    BlockRuns blocks;
    BlockRuns inodes;  // by number
    [[nodiscard]] bool is_empty() const { return blocks.count() == 0 && inodes.count() == 0; }
    void clear() {
      blocks.clear();
      inodes.clear();
    }
  };
  struct State {
    Freed now, begun;
  };
  Guarded<State, LockRank::kWriteOrder> state_;
};

}  // namespace fuse4fs::ext4
