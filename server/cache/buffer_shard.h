// SPDX-License-Identifier: GPL-2.0-or-later
// What a BufferCache is made of: frames, each with one block, and shards of them. Only for buffer_*.cc.
#pragma once

#include <condition_variable>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/cache/buffer_cache.h"

namespace fuse4fs::cache {
namespace internal {

// One block in memory.
struct Frame {
  Frame(std::uint64_t number, BlockMemory::Piece its_memory)
      : block(number), bytes(its_memory.get()), memory(std::move(its_memory)) {}

  void set_role(BlockRole now) {
    verified_parts = 0;
    role = now;
  }

  const std::uint64_t block;
  std::atomic<std::byte*> bytes;
  // The cache's own while `here`, one for each handle and Change, one for whoever reads or writes the block.
  // From one to two only under the shard's lock: one that is seen there may be evicted.
  std::atomic<std::uint32_t> references{1};
  std::atomic<BlockRole> role{};                 // what it was verified as
  std::atomic<std::uint64_t> verified_parts{0};  // a bit each, since it is that

  // All that follows: under the shard's lock.
  BlockMemory::Piece memory;
  std::vector<BlockMemory::Piece> old_memory;  // a write's, or spans of it may be left
  const std::byte* in_flight = nullptr;        // what the device is just writing
  Frame* older = nullptr;
  Frame* newer = nullptr;
  std::uint64_t fresh_in = 0;  // a value of BufferCache::begun_; 0: it was there before
  std::uint32_t open_changes = 0;
  std::uint32_t pins = 0;
  bool here = true;  // in the cache; else only its handles know it
  bool filling = false;
  bool verifying = false;
  bool contested = false;         // others may still have in hands what it was before
  bool queued = false;            // in_flight, of a WriteBack that has not come to it yet
  bool dirty = false;             // changed since the last write began
  DirtyPlace place_when_dirty{};  // empty while no change has begun since it became dirty
};

inline void acquire(Frame& frame) { frame.references.fetch_add(1, std::memory_order_relaxed); }
inline void release(Frame& frame) {
  if (frame.references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete &frame;
}

}  // namespace internal

struct BufferCache::ShardState {
  std::unordered_map<std::uint64_t, Frame*> frames;
  std::set<std::uint64_t> dirty;
  Frame* oldest = nullptr;
  Frame* newest = nullptr;
  unsigned waiting = 0;

  [[nodiscard]] Frame* find(std::uint64_t block) const {
    const auto found = frames.find(block);
    return found == frames.end() ? nullptr : found->second;
  }
  void append(Frame& frame) {
    frame.older = newest;
    frame.newer = nullptr;
    (newest == nullptr ? oldest : newest->newer) = &frame;
    newest = &frame;
  }
  void unlink(Frame& frame) {
    (frame.older == nullptr ? oldest : frame.older->newer) = frame.newer;
    (frame.newer == nullptr ? newest : frame.newer->older) = frame.older;
  }
  void touch(Frame& frame) {
    if (newest == &frame) return;
    unlink(frame);
    append(frame);
  }
};

struct BufferCache::Shard {
  using Locked = Guarded<ShardState, LockRank::kBlockCache>::Locked;

  Guarded<ShardState, LockRank::kBlockCache> state;
  std::condition_variable_any changed;

  template <class Done>
  void wait(Locked& locked, Done done) {
    ++locked->waiting;
    changed.wait(locked.lock(), done);
    --locked->waiting;
  }
  void notify(Locked& locked) {
    if (locked->waiting != 0) changed.notify_all();
  }
};

}  // namespace fuse4fs::cache
