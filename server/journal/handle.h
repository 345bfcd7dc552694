// SPDX-License-Identifier: GPL-2.0-or-later
// The writing face of the journal: each change of metadata happens under a Handle.
//
// A handle is begun before the first block is changed and ended when the volume is consistent in memory
// again: what one handle changes belongs together. A Pause holds new handles off and waits for those that are
// open, so whoever has it sees no half of a change: a write-back begins under one.
//
// Locking: a handle counts as a lock of rank kHandle, one a thread. So inode locks are taken before it, and
// nobody waits for one while a handle is open: the Pause would wait for him, and he for somebody whom the
// Pause holds off.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

#include "base/guarded.h"

namespace fuse4fs::journal {

class Journal;

// What a handle may need, told before it starts.
struct Credits {
  std::size_t blocks = 0;  // metadata blocks that it may change
};

class Handle {
 public:
  Handle(Handle&& other) noexcept;
  Handle& operator=(Handle&&) = delete;
  ~Handle();

 private:
  friend class Journal;
  explicit Handle(Journal& journal) : journal_(&journal) {}
  Journal* journal_;
};

class Journal {
 public:
  // No handle is open as long as it lives.
  class [[nodiscard]] Pause {
   public:
    Pause(Pause&& other) noexcept;
    Pause& operator=(Pause&&) = delete;
    ~Pause();

   private:
    friend class Journal;
    explicit Pause(Journal& journal) : journal_(&journal) {}
    Journal* journal_;
  };

  // Waits while there is a Pause, or somebody waits for one.
  [[nodiscard]] Handle start(Credits credits);
  // Waits for the open handles, and for another Pause.
  Pause pause();

 private:
  friend class Handle;
  void end_handle();
  void end_pause();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t open_ = 0;     // handles
  std::size_t pausing_ = 0;  // those that have a Pause or wait for one
  bool paused_ = false;
};

}  // namespace fuse4fs::journal
