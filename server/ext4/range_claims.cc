// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/range_claims.h"

namespace fuse4fs::ext4 {

bool RangeClaims::must_wait(const Queue& queue, Queue::const_iterator range) {
  for (auto earlier = queue.begin(); earlier != range; ++earlier) {
    const bool overlap = earlier->begin < range->end && range->begin < earlier->end;
    if (overlap && (earlier->exclusive || range->exclusive)) return true;
  }
  return false;
}

RangeClaims::Claim RangeClaims::claim(InodeNumber inode, std::uint64_t begin, std::uint64_t end, Mode mode) {
  auto state = state_.lock();
  Queue& queue = state->files[inode];
  const auto range = queue.insert(queue.end(), Range{begin, end, mode == Mode::kExclusive});
  if (must_wait(queue, range)) {
    ++state->waiting;
    released_.wait(state.lock(), [&] { return !must_wait(queue, range); });
    --state->waiting;
  }
  return Claim(this, inode, range);
}

void RangeClaims::release(InodeNumber inode, Queue::iterator range) {
  auto state = state_.lock();
  const auto file = state->files.find(inode);
  file->second.erase(range);
  if (file->second.empty()) state->files.erase(file);
  if (state->waiting != 0) released_.notify_all();
}

}  // namespace fuse4fs::ext4
