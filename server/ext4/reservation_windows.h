// SPDX-License-Identifier: GPL-2.0-or-later
// Reservation windows: the blocks behind the end of a file that grows, which others leave alone while they
// find others. So files that are written side by side do not lie mixed.
//
// A window is in memory only, like those of ext3 and unlike the kernel's ext4, whose buddies know its
// preallocation as used: in the bitmap its blocks are free, and they are counted as free, a crash leaves
// nothing of it. It is advice: some of its blocks may be in use, or be taken by who found no others. It goes
// when its file is cut or forgotten, when it was not used for two rounds of age() (the write-back of every
// few seconds), when a search found nothing else, and when there are too many of them.
//
// Locking: any thread; one lock (rank kReservations) for moments. Errors: none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "base/guarded.h"
#include "server/ext4/block_bitmaps.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class ReservationWindows {
 public:
  static constexpr std::size_t kMost = 256;

  // Of a run: the first part of it that lies in no window but the owner's (0: of nobody), which may be empty,
  // at the end of the run.
  [[nodiscard]] BlockRun first_free(BlockRun run, InodeNumber owner);
  // What is left of the owner's window from this block on; empty if it does not lie in it.
  [[nodiscard]] BlockRun rest(InodeNumber owner, std::uint64_t block);
  // The owner took a run: its window is now the `ahead` blocks behind that, as far as no other one begins
  // there. Where it took it out of its window, what lies before it stays: writes may come out of order.
  void take(InodeNumber owner, BlockRun run, std::uint64_t ahead);
  void forget(InodeNumber owner);
  // Whether there was any.
  bool forget_all();
  void age();
  [[nodiscard]] std::size_t size() const { return size_.load(std::memory_order_relaxed); }

 private:
  // What stays of a window before what was taken of it.
  static constexpr std::uint64_t kMostBefore = 2048;  // blocks

  struct Window {
    std::uint64_t end = 0;
    InodeNumber owner = 0;
    std::uint64_t last_used = 0;
  };
  struct State {
    std::map<std::uint64_t, Window> windows;  // by first block; they lie apart
    std::unordered_map<InodeNumber, std::uint64_t> owners;
    std::uint64_t clock = 0;  // rounds
    void erase(InodeNumber owner);
    void erase_longest_unused();
    // The window that has the block, or the next one behind it.
    [[nodiscard]] std::map<std::uint64_t, Window>::iterator at_or_behind(std::uint64_t block);
  };

  Guarded<State, LockRank::kReservations> state_;
  std::atomic<std::size_t> size_{0};  // changed under state_
};

}  // namespace fuse4fs::ext4
