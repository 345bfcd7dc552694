// SPDX-License-Identifier: GPL-2.0-or-later
// The metadata blocks of one volume in memory, written back late and in large pieces.
//
// Only metadata passes here. File data goes to the device directly, so a block that changes its use must be
// forgotten when it is freed: a stale dirty copy would be written over its new owner's data.
//
// Locking: any thread. One lock (rank 40) over everything, held across the device I/O of misses and
// write-back: forget() must not return while an older copy of the block may still be on its way to the
// device. Errors: a block that cannot be written stays dirty, and each flush() tries it again and reports it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/cache/block_device.h"

namespace fuse4fs::cache {

class BlockCache {
 public:
  static constexpr std::size_t kDefaultLimit = std::size_t{64} << 20;

  // `device` must outlive the cache. `limit` is in bytes, clean and dirty together.
  BlockCache(const BlockDevice& device, std::size_t block_size, std::size_t limit = kDefaultLimit);

  // Any byte range of the device. A write that changes nothing does not make its blocks dirty.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into);
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from);

  // The blocks were freed: their copies, dirty or not, are dropped.
  void forget(std::uint64_t first_block, std::uint64_t count);

  // Hands all dirty blocks to the device, in block order. Not to its medium: that is BlockDevice::flush().
  Result<void> flush();

  [[nodiscard]] std::size_t dirty_blocks();
  [[nodiscard]] std::size_t cached_blocks();

 private:
  struct Block {
    std::unique_ptr<std::byte[]> bytes;
    bool dirty = false;
    std::list<std::uint64_t>::iterator age;
  };
  struct State {
    std::unordered_map<std::uint64_t, Block> blocks;
    std::list<std::uint64_t> by_age;  // least recently used first
    std::set<std::uint64_t> dirty;
    std::vector<std::byte> gather;  // neighbours on their way to the device
  };

  enum class Fill { kFromDevice, kWillBeOverwritten };
  Result<Block*> obtain(State& state, std::uint64_t number, Fill fill);
  void make_room(State& state);
  Result<void> write_back(State& state);

  const BlockDevice& device_;
  const std::size_t block_size_;
  const std::size_t limit_blocks_;
  Guarded<State, LockRank::kBlockCache> state_;
};

}  // namespace fuse4fs::cache
