// SPDX-License-Identifier: GPL-2.0-or-later
// What changes the volume though nobody asks for it just now: write-back ticks, access times, inode tables
// that are initialised, the end of inodes that are forgotten. While the volume is frozen there is none of it.
//
// Locking: any thread; the lock of a Turn has rank kOwnChanges and is held as long as the turn is. stop()
// waits for turns. Errors: none.
#pragma once

#include <atomic>
#include <mutex>
#include <shared_mutex>

#include "base/guarded.h"

namespace fuse4fs::ext4 {

class OwnChanges {
  using Lock = RankedMutex<std::shared_mutex, LockRank::kOwnChanges>;

 public:
  // Whether it may be is so until the turn is over.
  class [[nodiscard]] Turn {
   public:
    explicit Turn(OwnChanges& changes) : lock_(changes.lock_), is_allowed_(!changes.stopped_) {}
    [[nodiscard]] bool is_allowed() const { return is_allowed_; }

   private:
    std::shared_lock<Lock> lock_;
    const bool is_allowed_;
  };

  // None that is allowed is under way any more when it returns. First of all no other is: turns share the
  // lock, and could follow each other for ever.
  void stop() {
    stopped_ = true;
    const std::unique_lock lock(lock_);
  }
  [[nodiscard]] bool are_stopped() const { return stopped_; }
  void go_on() {
    const std::unique_lock lock(lock_);
    stopped_ = false;
  }

 private:
  Lock lock_;
  std::atomic<bool> stopped_ = false;
};

}  // namespace fuse4fs::ext4
