// SPDX-License-Identifier: GPL-2.0-or-later
// A value that can only be reached through its lock, and a lock that knows its place in the lock order.
//
// Ranks are taken upward only (docs/architecture.md, "Locks"). Builds without NDEBUG stop at the first
// violation, with both ranks in the message, in whatever test meets it: no unlucky interleaving is needed.
#pragma once

#include <mutex>
#include <shared_mutex>
#include <utility>

namespace fuse4fs {

// The place of a lock in the lock order. A thread that holds a rank may only take higher ones.
enum class LockRank : int {
  kRange = 20,       // the byte ranges of one inode that are in use
  kMetadata = 30,    // libext2fs and all it knows
  kHandle = 32,      // a change of metadata under way
  kWriteBack = 38,   // cached blocks on their way to the device
  kBlockCache = 40,  // a shard of the cached metadata blocks
  kLogLimit = 80,    // how much was logged lately
  kLog = 90,         // the line being written
};

namespace internal {
// Debug builds: asserts the order and keeps the thread's list of held ranks. Release builds: nothing.
#ifdef NDEBUG
inline void note_lock_taken(LockRank) {}
inline void note_lock_released(LockRank) {}
#else
void note_lock_taken(LockRank rank);
void note_lock_released(LockRank rank);
#endif
}  // namespace internal

// A mutex with a rank. Fits std::unique_lock, std::shared_lock and std::condition_variable_any.
template <class Mutex, LockRank kRank>
class RankedMutex {
 public:
  void lock() {
    internal::note_lock_taken(kRank);
    mutex_.lock();
  }
  bool try_lock() {
    if (!mutex_.try_lock()) return false;
    internal::note_lock_taken(kRank);
    return true;
  }
  void unlock() {
    mutex_.unlock();
    internal::note_lock_released(kRank);
  }
  void lock_shared() {
    internal::note_lock_taken(kRank);
    mutex_.lock_shared();
  }
  void unlock_shared() {
    mutex_.unlock_shared();
    internal::note_lock_released(kRank);
  }

 private:
  Mutex mutex_;
};

// T with its mutex. `auto state = guarded.lock();` then `state->…`, until `state` goes out of scope.
template <class T, LockRank kRank>
class Guarded {
 public:
  using MutexType = RankedMutex<std::mutex, kRank>;

  template <class... Args>
  explicit Guarded(Args&&... args) : value_(std::forward<Args>(args)...) {}

  class [[nodiscard]] Locked {
   public:
    T* operator->() { return value_; }
    T& operator*() { return *value_; }
    // For waiting on a std::condition_variable_any.
    std::unique_lock<MutexType>& lock() { return lock_; }

   private:
    friend class Guarded;
    Locked(MutexType& mutex, T* value) : lock_(mutex), value_(value) {}
    std::unique_lock<MutexType> lock_;
    T* value_;
  };

  Locked lock() { return Locked(mutex_, &value_); }

 private:
  MutexType mutex_;
  T value_;
};

}  // namespace fuse4fs
