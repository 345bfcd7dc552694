// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_read_ahead.h"

#include <algorithm>

namespace fuse4fs::ext4 {

bool InodeReadAhead::missed(std::uint64_t block) {
  // The higher bits of a block number are lost: then two pieces are taken for one.
  const auto piece = static_cast<std::uint32_t>(block / kPiece);
  const auto inside = static_cast<std::uint8_t>(block % kPiece);
  auto& place = misses_[piece % misses_.size()];
  Misses known = place.load(std::memory_order_relaxed);
  if (known.wanted == 0 || known.piece != piece)
    known = {.piece = piece, .last = inside, .count = 0, .wanted = kFirstWanted};
  const bool goes_on = known.count > 0 && inside == known.last + 1;
  known.last = inside;
  const bool worth_it = ++known.count >= known.wanted || goes_on;
  if (worth_it) {
    known.count = 0;
    known.wanted = std::min<std::uint8_t>(static_cast<std::uint8_t>(2 * known.wanted), kMostWanted);
  }
  place.store(known, std::memory_order_relaxed);
  return worth_it;
}

}  // namespace fuse4fs::ext4
