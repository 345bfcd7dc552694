// SPDX-License-Identifier: GPL-2.0-or-later
// What becomes of the changes that are made under handles: nothing more, on a volume without a journal
// (NoJournal), or an entry in a transaction.
//
// Locking: called by threads with an open handle, many at once, under any lock of the engine up to
// kInodeBlock; what is shared between them the implementation protects.
// Errors: a change's own: EROFS, those of the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "server/cache/buffer_cache.h"

namespace fuse4fs::journal {

class ChangeLog {
 public:
  virtual ~ChangeLog() = default;

  // The first time, the handle has paid for the block with a credit.
  enum class Changed { kFirst, kAgain };
  // Before bytes are changed.
  virtual Result<cache::Change> modify(cache::Buffer& buffer, Changed changed) = 0;
  // As BufferCache::get_new().
  virtual Result<cache::Buffer> get_new(std::uint64_t block, cache::BlockRole role, Changed changed) = 0;
  // As BufferCache::write(), from byte `inside` of the block on, and not beyond it.
  virtual Result<void> write(std::uint64_t block, std::size_t inside, std::span<const std::byte> from,
                             Changed changed) = 0;
  // The blocks were metadata and are free: what the log has of them must not be replayed over their next
  // owner.
  virtual void revoke(std::uint64_t first, std::uint64_t count) = 0;
  // The blocks are free: what is in memory of them is of no use.
  virtual void forget(std::uint64_t first, std::uint64_t count) = 0;
  // Whether the running transaction has room for so many more blocks than its handles were granted. If so,
  // they are this handle's.
  [[nodiscard]] virtual bool has_room(std::size_t blocks) = 0;
};

// Changes go to their places with the next write-back, whose order is its own business.
class NoJournal final : public ChangeLog {
 public:
  // `cache` outlives it.
  explicit NoJournal(cache::BufferCache& cache) : cache_(cache) {}

  Result<cache::Change> modify(cache::Buffer& buffer, Changed) override { return buffer.change(); }
  Result<cache::Buffer> get_new(std::uint64_t block, cache::BlockRole role, Changed) override {
    return cache_.get_new(block, role);
  }
  Result<void> write(std::uint64_t block, std::size_t inside, std::span<const std::byte> from,
                     Changed) override {
    return cache_.write(block * cache_.block_size() + inside, from);
  }
  void revoke(std::uint64_t, std::uint64_t) override {}
  void forget(std::uint64_t first, std::uint64_t count) override { cache_.forget(first, count); }
  [[nodiscard]] bool has_room(std::size_t) override { return true; }

 private:
  cache::BufferCache& cache_;
};

}  // namespace fuse4fs::journal
