// SPDX-License-Identifier: GPL-2.0-or-later
// A value that can only be reached through its lock, and a lock that knows its place in the lock order.
//
// Ranks are taken upward only (docs/architecture.md, "Locks"). Builds without NDEBUG stop at the first
// violation, with both ranks in the message, in whatever test meets it: no unlucky interleaving is needed.
#pragma once

#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <utility>

namespace fuse4fs {

// The place of a lock in the lock order. A thread that holds a rank may only take higher ones; of locks with
// keys (KeyedMutex) also those of the same rank and a higher key.
enum class LockRank : int {
  kRename = 10,              // renames between two directories
  kRange = 20,               // the byte ranges of one inode that are in use
  kOwnChanges = 25,          // what changes though nobody asks for it, against a freeze
  kRoom = 26,                // who finds no room, one at a time
  kInode = 30,               // one inode; of several, by ascending number
  kWriteBackTurn = 31,       // a write-back in order, from its beginning to its end
  kHandle = 32,              // a change of metadata under way
  kXattrShare = 33,          // changes of what inodes share of extended attributes
  kXattrValue = 34,          // the inodes of their values
  kGroup = 35,               // a block group's bitmaps and figures
  kDirectoryPlaces = 36,     // where the blocks of directories lie, the names of those without an index
  kInodeBlock = 37,          // the bytes of blocks of inode tables
  kXattrBlock = 38,          // the bytes of blocks of extended attributes
  kSuperblock = 39,          // its fields that change
  kWriteBack = 40,           // cached blocks on their way to the device
  kBlockCache = 41,          // a shard of the cached metadata blocks
  kLiveInodes = 42,          // a shard of the table of inodes in memory
  kDedupIndex = 43,          // what was seen lately that may be shared
  kDefaultAcls = 44,         // which default ACLs directories have
  kErrorRecord = 45,         // errors that the superblock is to record
  kWriteOrder = 46,          // what a write-back in order must know, and what is not released yet
  kReservations = 47,        // which free blocks are left to whose file
  kMappedFiles = 48,         // what is known of files whose data the caller moves
  kPreallocatedBlocks = 49,  // which blocks files were given before they need them
  kMappingReadAhead = 50,    // where callers go through files
  kLogLimit = 80,            // how much was logged lately
  kLog = 90,                 // the line being written
};

namespace internal {
// Debug builds: asserts the order and keeps the thread's list of held ranks. Release builds: nothing.
#ifdef NDEBUG
inline void note_lock_taken(LockRank) {}
inline void note_lock_taken(LockRank, std::uint64_t) {}
inline void note_lock_tried(LockRank, std::uint64_t) {}
inline void note_lock_released(LockRank) {}
inline void note_lock_released(LockRank, std::uint64_t) {}
#else
// `key` 0: of this rank there may be one only.
void note_lock_taken(LockRank rank, std::uint64_t key = 0);
// Without waiting, which no order can forbid: only what comes after it is judged by it.
void note_lock_tried(LockRank rank, std::uint64_t key);
void note_lock_released(LockRank rank, std::uint64_t key = 0);
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
