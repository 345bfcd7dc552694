// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks of a raw device are free, in memory. Gives them in short runs from ever new places, so that
// files come to lie in pieces and beside each other.
//
// Any thread. Blocks.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "tests/iomap/block_owners.h"

namespace fuse4fs::iomap_model {

class BlockAllocator {
 public:
  struct Shape {
    std::uint64_t blocks = 0;
    std::uint64_t block_size = 4096;  // bytes
    std::uint64_t longest_run = 8;
  };
  // Is told what is taken and given back.
  BlockAllocator(const Shape& shape, VolumeWatch& watch)
      : shape_(shape), watch_(watch), taken_(shape.blocks), free_(shape.blocks) {}

  // All or ENOSPC.
  Result<std::vector<std::uint64_t>> take(std::uint64_t count);
  void give_back(const std::vector<std::uint64_t>& blocks);
  [[nodiscard]] std::uint64_t free_blocks() const;

 private:
  const Shape shape_;
  VolumeWatch& watch_;
  mutable std::mutex mutex_;
  // All guarded by mutex_.
  std::vector<bool> taken_;
  std::uint64_t free_;
  std::uint64_t next_ = 0;
};

}  // namespace fuse4fs::iomap_model
