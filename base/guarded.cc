// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/guarded.h"

#ifndef NDEBUG

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace fuse4fs::internal {
namespace {

struct HeldLock {
  LockRank rank{};
  std::uint64_t key = 0;
};

// A thread holds a handful of locks at most: no allocation inside a lock operation.
struct HeldLocks {
  std::array<HeldLock, 16> locks{};
  std::size_t count = 0;
};
thread_local HeldLocks held;

void add(LockRank rank, std::uint64_t key) {
  if (held.count == held.locks.size()) std::abort();
  held.locks[held.count++] = {rank, key};
}

}  // namespace

void note_lock_taken(LockRank rank, std::uint64_t key) {
  for (std::size_t i = 0; i < held.count; ++i) {
    const HeldLock& other = held.locks[i];
    if (other.rank < rank || (other.rank == rank && other.key < key)) continue;
    std::fprintf(stderr, "lock order: rank %d taken while rank %d is held\n", static_cast<int>(rank),
                 static_cast<int>(other.rank));
    if (other.rank == rank && key != 0)
      std::fprintf(stderr, "lock order: key %ju taken while key %ju is held\n", std::uintmax_t{key},
                   std::uintmax_t{other.key});
    std::abort();
  }
  add(rank, key);
}

void note_lock_tried(LockRank rank, std::uint64_t key) { add(rank, key); }

void note_lock_released(LockRank rank, std::uint64_t key) {
  auto* const end = held.locks.begin() + held.count;
  auto* const found = std::find_if(
      held.locks.begin(), end, [&](const HeldLock& lock) { return lock.rank == rank && lock.key == key; });
  if (found == end) std::abort();
  std::copy(found + 1, end, found);
  --held.count;
}

}  // namespace fuse4fs::internal

#endif
