// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/guarded.h"

#ifndef NDEBUG

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace fuse4fs::internal {
namespace {

// A thread holds a handful of locks at most: no allocation inside a lock operation.
struct HeldRanks {
  std::array<LockRank, 16> ranks{};
  std::size_t count = 0;
};
thread_local HeldRanks held;

}  // namespace

void note_lock_taken(LockRank rank) {
  for (std::size_t i = 0; i < held.count; ++i) {
    if (held.ranks[i] < rank) continue;
    std::fprintf(stderr, "lock order: rank %d taken while rank %d is held\n", static_cast<int>(rank),
                 static_cast<int>(held.ranks[i]));
    std::abort();
  }
  if (held.count == held.ranks.size()) std::abort();
  held.ranks[held.count++] = rank;
}

void note_lock_released(LockRank rank) {
  auto* const end = held.ranks.begin() + held.count;
  auto* const found = std::find(held.ranks.begin(), end, rank);
  if (found == end) std::abort();
  std::copy(found + 1, end, found);
  --held.count;
}

}  // namespace fuse4fs::internal

#endif
