// SPDX-License-Identifier: GPL-2.0-or-later
// The writing face of the journal: each change of metadata happens under a Handle.
//
// A handle is begun before the first block is changed and ended when the volume is consistent in memory
// again: what one handle changes belongs together. It says at its beginning how many blocks it may change
// (credits), so that a transaction is never too small for what it began. A Pause holds new handles off and
// waits for those that are open, so whoever has it sees no half of a change: a write-back begins under one.
//
// A thread has one handle at most. So nothing passes it down: whoever changes a block does it through the
// Journal (modify() and what comes behind it), which knows the thread's own, as jbd2 does. Handle itself is
// no more than the guard that ends it.
//
// Long work (a truncate) cannot say how much it needs: where ensure() answers no, it makes the volume
// consistent, and restart()s.
//
// A write-back is no change: who holds everybody off with a Pause writes to the cache directly, and to the
// device. So is the recovery of a log, which comes before the first handle.
//
// Locking: a handle, or a Pause, counts as a lock of rank kHandle, one a thread, and is its thread's alone.
// So inode locks are taken before it, and nobody waits for one while a handle is open: the Pause would wait
// for him, and he for somebody whom the Pause holds off. restart() may wait, so with no lock above kHandle.
// Errors: a change's own (EROFS, those of the device, ENOMEM by exception). A change without a handle, or of
// more blocks than it has credits for, is a bug: builds without NDEBUG stop, others make it all the same.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "base/guarded.h"
#include "base/result.h"
#include "server/cache/buffer_cache.h"
#include "server/journal/change_log.h"
#include "server/journal/last_changes.h"

namespace fuse4fs::journal {

class Journal;

// What a handle may need, told before it starts.
struct Credits {
  std::size_t blocks = 0;  // of metadata, each counted once
};

namespace internal {
void end_handle(Journal& journal);
void end_pause(Journal& journal);

// What a journal began for its thread. Ends once.
template <void (*kEnd)(Journal&)>
class [[nodiscard]] Turn {
 public:
  Turn(Turn&&) noexcept = default;
  Turn& operator=(Turn&&) = delete;
  ~Turn() = default;

 private:
  friend class journal::Journal;
  explicit Turn(Journal& journal) : journal_(&journal) {}
  struct End {
    void operator()(Journal* journal) const { kEnd(*journal); }
  };
  std::unique_ptr<Journal, End> journal_;
};
}  // namespace internal

// One change of metadata, from its beginning to its end.
using Handle = internal::Turn<internal::end_handle>;

class Journal {
 public:
  // No handle is open as long as it lives.
  using Pause = internal::Turn<internal::end_pause>;

  // `log` outlives it.
  explicit Journal(ChangeLog& log) : log_(&log) {}
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Where changes go from now on. While nobody has begun anything.
  void set_log(ChangeLog& log) { log_ = &log; }

  // Waits while there is a Pause, or somebody waits for one.
  Handle start(Credits credits);
  // Waits for the open handles, and for another Pause.
  Pause pause();
  // Of the calling thread.
  [[nodiscard]] bool has_handle() const;
  [[nodiscard]] bool has_pause() const;

  // The rest is about the handle of the calling thread. Where it has none, ensure() says yes, and nothing is
  // used.
  //
  // At least so many credits are left, or more are to be had. Never waits.
  [[nodiscard]] bool ensure(Credits wanted);
  // As if it ended and another began: the volume is consistent now, and a Pause may come between. `between`
  // is called when the one is over, for what must not be done under a handle.
  void restart(Credits credits) {
    restart(credits, [] {});
  }
  template <class Between>
  void restart(Credits credits, const Between& between) {
    if (!has_handle()) return;
    internal::end_handle(*this);
    // Whatever happens, its guard ends one.
    struct Next {
      ~Next() { journal.begin_handle(credits); }
      Journal& journal;
      Credits credits;
    } const next{*this, credits};
    between();
  }
  [[nodiscard]] Credits granted() const;
  [[nodiscard]] Credits used() const;

  // What is changed. A block takes a credit the first time.
  //
  // The right to change the block's bytes, as a part of what the handle does.
  Result<cache::Change> modify(cache::Buffer& buffer) {
    note_owner(buffer.role().owner);
    return log_->modify(buffer, count(buffer.block()));
  }
  // As BufferCache::get_new().
  Result<cache::Buffer> get_new(std::uint64_t block, cache::BlockRole role) {
    note_owner(role.owner);
    return log_->get_new(block, role, count(block));
  }
  // As BufferCache::write(), from byte `inside` of the block on, and not beyond it. `owner` is the inode
  // whose block it is, or 0.
  Result<void> write(std::uint64_t block, std::size_t inside, std::span<const std::byte> from,
                     std::uint32_t owner) {
    note_owner(owner);
    return log_->write(block, inside, from, count(block));
  }
  // The blocks were metadata and were freed: what was changed of them under this handle or before is void.
  void revoke(std::uint64_t first, std::uint64_t count);
  // The blocks, of whatever, were freed: what the cache has of them goes. Not with a Change of one of them.
  void forget(std::uint64_t first, std::uint64_t count);

  // When inodes were last changed. That a block of theirs is, whose role names its owner, is noted here; the
  // inode itself by who writes it.
  [[nodiscard]] LastChanges& last_changes() { return last_changes_; }

 private:
  friend void internal::end_handle(Journal& journal);
  friend void internal::end_pause(Journal& journal);
  void begin_handle(Credits credits);
  ChangeLog::Changed count(std::uint64_t block);
  void note_owner(std::uint32_t owner) {
    if (owner != 0) last_changes_.note(owner, Changed::kMore);
  }

  ChangeLog* log_;
  LastChanges last_changes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t open_ = 0;     // handles
  std::size_t pausing_ = 0;  // those that have a Pause or wait for one
  bool paused_ = false;
};

}  // namespace fuse4fs::journal
