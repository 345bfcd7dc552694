// SPDX-License-Identifier: GPL-2.0-or-later
// A lock for readers and writers of which a thread may hold several: in the ascending order of their keys.
//
// Who waits to write goes before those who come to read after him: readers that follow each other without a
// gap would keep him out for ever (std::shared_mutex says nothing of it, and glibc's prefers readers).
// Builds without NDEBUG stop where a thread waits out of order; trying is not waiting, and may be done in
// any.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <cstdlib>

#include "base/guarded.h"

namespace fuse4fs {

template <LockRank kRank>
class KeyedMutex {
 public:
  // Of all that a thread may hold at a time; not 0.
  explicit KeyedMutex(std::uint32_t key) : key_(key) {}
  KeyedMutex(const KeyedMutex&) = delete;
  KeyedMutex& operator=(const KeyedMutex&) = delete;
  ~KeyedMutex() { pthread_rwlock_destroy(&lock_); }

  [[nodiscard]] std::uint32_t key() const { return key_; }

  void lock() {
    internal::note_lock_taken(kRank, key_);
    if (pthread_rwlock_wrlock(&lock_) != 0) std::abort();
  }
  bool try_lock() {
    if (pthread_rwlock_trywrlock(&lock_) != 0) return false;
    internal::note_lock_tried(kRank, key_);
    return true;
  }
  void unlock() {
    pthread_rwlock_unlock(&lock_);
    internal::note_lock_released(kRank, key_);
  }
  void lock_shared() {
    internal::note_lock_taken(kRank, key_);
    if (pthread_rwlock_rdlock(&lock_) != 0) std::abort();
  }
  void unlock_shared() {
    pthread_rwlock_unlock(&lock_);
    internal::note_lock_released(kRank, key_);
  }

 private:
  pthread_rwlock_t lock_ = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
  const std::uint32_t key_;
};

}  // namespace fuse4fs
