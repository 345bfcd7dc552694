// SPDX-License-Identifier: GPL-2.0-or-later
// What is free and not to be had yet.
//
// Blocks and inode numbers that were freed, until their release is on the medium: before that nobody gets
// them. Or a power cut could leave them with two owners: a file that was truncated would show what was
// written to another one afterwards, a name would lead to an inode that was made after it was gone.
//
// Blocks that the device is just told to discard, until it has answered: or it would discard what their next
// owner writes. As in the kernel, no lock is held for that.
//
// In the bitmaps they are free, and they are counted as free; the allocators pass over them. Where nothing
// else is left, a write-back helps, or that no discard is under way (NoDiscards).
//
// Locking: any thread; one lock (rank kWriteOrder) for moments. A Discard waits for those who want none, and
// a NoDiscards for the discards under way: neither is begun with any lock held.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <utility>

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
    const auto& [now, begun, discarded, discards, held_off] = *state;
    while (first < end) {
      const std::uint64_t behind = discarded.behind(begun.blocks.behind(now.blocks.behind(first)));
      if (behind == first) break;
      first = behind;
    }
    if (first >= end) return {end, end};
    return {first, std::min({end, now.blocks.next(first), begun.blocks.next(first), discarded.next(first)})};
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
    return state->now.blocks.count() + state->begun.blocks.count() + state->discarded.count();
  }
  // Nothing waits for its release.
  [[nodiscard]] bool is_empty() {
    auto state = state_.lock();
    return state->now.is_empty() && state->begun.is_empty();
  }

  // So many that they should not be left to the next write-back that comes by itself: each run is in memory.
  [[nodiscard]] bool are_many() {
    constexpr std::size_t kMany = 64 << 10;
    auto state = state_.lock();
    return state->now.blocks.runs() + state->now.inodes.runs() > kMany;
  }

  // A write-back begins, which has all of their releases so far.
  void begin() {
    auto state = state_.lock();
    // As a rule, and everybody waits.
    if (state->begun.is_empty()) {
      std::swap(state->begun, state->now);
      return;
    }
    state->begun.blocks.add(state->now.blocks);
    state->begun.inodes.add(state->now.inodes);
    state->now.clear();
  }
  // It is on the medium. A failure is no call: they wait for the next one.
  void release() {
    // Freed when the lock is let go.
    const Freed released = std::exchange(state_.lock()->begun, {});
  }

  // A discard under way: what is added is out of reach until this goes, whatever the device said.
  class Discard {
   public:
    explicit Discard(Unreleased& unreleased);
    Discard(const Discard&) = delete;
    Discard& operator=(const Discard&) = delete;
    ~Discard();
    // Blocks that are free and may be given out; with their group locked, so that nobody just takes them.
    void add(std::uint64_t first, std::uint64_t count);
    [[nodiscard]] const BlockRuns& blocks() const { return blocks_; }
    // These may be given out again, before the others: blocks() has them no more.
    void give_back(std::uint64_t first, std::uint64_t count) {
      blocks_.remove(first, count);
      unreleased_.state_.lock()->discarded.remove(first, count);
    }
    // Somebody waits for its end.
    [[nodiscard]] bool is_unwanted() const { return unreleased_.state_.lock()->held_off != 0; }

   private:
    friend class Unreleased;
    enum class Already { kCounted };
    Discard(Unreleased& unreleased, BlockRuns blocks, Already)
        : unreleased_(unreleased), blocks_(std::move(blocks)) {}
    Unreleased& unreleased_;
    BlockRuns blocks_;
  };
  // release(), of blocks into a discard: nobody gets them between. Null, and just released, where there are
  // none or somebody wants no discards: it waits for nobody, so whatever locks are held.
  [[nodiscard]] std::unique_ptr<Discard> release_to_discard();
  // While it lives no discard is under way.
  class NoDiscards {
   public:
    explicit NoDiscards(Unreleased& unreleased);
    NoDiscards(const NoDiscards&) = delete;
    NoDiscards& operator=(const NoDiscards&) = delete;
    ~NoDiscards();

   private:
    Unreleased& unreleased_;
  };
  // Since the mount. Where more have begun now than had ended then, one was under way between.
  [[nodiscard]] std::uint64_t discards_begun() const { return discards_begun_; }
  [[nodiscard]] std::uint64_t discards_ended() const { return discards_ended_; }

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
    BlockRuns discarded;
    unsigned discards = 0;  // under way
    unsigned held_off = 0;  // by so many
  };
  Guarded<State, LockRank::kWriteOrder> state_;
  std::condition_variable_any changed_;
  std::atomic<std::uint64_t> discards_begun_{0}, discards_ended_{0};  // changed under state_
};

}  // namespace fuse4fs::ext4
