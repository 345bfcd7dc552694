// SPDX-License-Identifier: GPL-2.0-or-later
// The pages of one file. A folio is a stretch of it, with what is up to date and what is dirty by block.
//
// PageCache: any thread. Folio: whoever holds its lock. Folios are locked in ascending order.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "server/ext4/file_system.h"

namespace fuse4fs::iomap_model {

using ext4::ByteRange;

struct Folio {
  Folio(std::uint64_t at, std::size_t size, std::uint64_t block_size)
      : offset(at), block(block_size), data(size), uptodate(size / block_size), dirty(size / block_size) {}

  std::mutex lock;
  const std::uint64_t offset;  // in the file
  const std::uint64_t block;
  std::vector<std::byte> data;
  std::vector<bool> uptodate, dirty;  // by block
  // Pieces of it that are on their way to the device. They end without the lock.
  std::atomic<unsigned> in_writeback = 0;
  bool removed = false;  // from the cache: look again

  [[nodiscard]] std::uint64_t end() const { return offset + data.size(); }
  [[nodiscard]] bool any_dirty() const;
  // Of the blocks that hold bytes of the range.
  [[nodiscard]] bool is_uptodate(ByteRange range) const;
  void mark(std::vector<bool>& which, ByteRange range) const;
  void wait_for_writeback() const {
    for (unsigned pieces = in_writeback; pieces != 0; pieces = in_writeback) in_writeback.wait(pieces);
  }
  [[nodiscard]] std::span<std::byte> bytes(ByteRange range) {
    return std::span(data).subspan(range.offset - offset, range.length);
  }
  // The part of the range that lies here; length 0 if none does.
  [[nodiscard]] ByteRange part(ByteRange range) const;
};

// A locked folio of the cache.
struct LockedFolio {
  std::shared_ptr<Folio> folio;
  std::unique_lock<std::mutex> lock;
  Folio* operator->() const { return folio.get(); }
  Folio& operator*() const { return *folio; }
  explicit operator bool() const { return folio != nullptr; }
};

class PageCache {
 public:
  PageCache(std::size_t folio_size, std::uint64_t block_size)
      : folio_size_(std::max<std::size_t>(folio_size, block_size)), block_size_(block_size) {}

  [[nodiscard]] std::size_t folio_size() const { return folio_size_; }
  // The folio that holds the position.
  LockedFolio lock(std::uint64_t position);  // made if it is not there
  LockedFolio lock_existing(std::uint64_t position);
  // In ascending order. Those that are there now.
  [[nodiscard]] std::vector<std::shared_ptr<Folio>> within(ByteRange range) const;
  // Those with something to write, or being written.
  [[nodiscard]] std::vector<std::shared_ptr<Folio>> dirty_within(ByteRange range) const;
  // The first at or behind the position; null if there is none.
  [[nodiscard]] std::shared_ptr<Folio> first_from(std::uint64_t position) const;
  // Of a locked one.
  void remove(Folio& folio);
  [[nodiscard]] bool any_dirty(ByteRange range) const { return !dirty_within(range).empty(); }

 private:
  const std::size_t folio_size_;
  const std::uint64_t block_size_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<Folio>> folios_;  // by offset; guarded by mutex_
};

}  // namespace fuse4fs::iomap_model
