// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/block_allocator.h"

namespace fuse4fs::iomap_model {

Result<std::vector<std::uint64_t>> BlockAllocator::take(std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  if (count > free_) return fail(ENOSPC);
  std::vector<std::uint64_t> blocks;
  for (std::uint64_t run = 0; blocks.size() < count; next_ = (next_ + 1) % shape_.blocks) {
    if (taken_[next_]) continue;
    taken_[next_] = true;
    watch_.allocated({.offset = next_ * shape_.block_size, .length = shape_.block_size});
    blocks.push_back(next_);
    if (++run % shape_.longest_run == 0) next_ = (next_ + 1 + shape_.longest_run) % shape_.blocks;
  }
  free_ -= count;
  return blocks;
}

void BlockAllocator::give_back(const std::vector<std::uint64_t>& blocks) {
  const std::lock_guard lock(mutex_);
  for (const std::uint64_t block : blocks) {
    watch_.freed({.offset = block * shape_.block_size, .length = shape_.block_size});
    if (taken_[block]) ++free_;
    taken_[block] = false;
  }
}

std::uint64_t BlockAllocator::free_blocks() const {
  const std::lock_guard lock(mutex_);
  return free_;
}

}  // namespace fuse4fs::iomap_model
