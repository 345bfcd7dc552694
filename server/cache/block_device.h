// SPDX-License-Identifier: GPL-2.0-or-later
// The device of one volume: all device I/O of the server goes through this class.
//
// What it needs of the device it has from a BlockBackend: two descriptors that the helper opened, or what a
// test put there. Two ways lead to it. One goes through the device's page cache and takes any offset and
// length: small or unaligned pieces of file data, and metadata in blocks smaller than a page. One goes past
// it: metadata, and large aligned file data, so that nothing is cached twice. The two are coherent: a direct
// transfer writes back and drops what the page cache holds of its range first.
//
// A BlockOverlay may lie over it: then all that is read is read through that, whatever way, and nothing is
// written to the device any more.
//
// Offsets and lengths are in bytes. Any thread; there is no state but the backend, forbid_writes() and
// the overlay, which is laid and frozen while one thread has the device.
// Errors: those of the backend; what does not lie inside of the device is EIO.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/cache/block_backend.h"
#include "server/cache/block_overlay.h"

namespace fuse4fs::cache {

enum class Access { kReadOnly, kReadWrite };

class BlockDevice {
 public:
  // Checks that both are block devices (or regular files, for tests) of the same size, with the access that
  // was asked for. `direct` may be empty: then everything goes through `buffered`.
  static Outcome<BlockDevice> adopt(UniqueFd buffered, UniqueFd direct, Access access);
  // The same, but nothing ever goes through the page cache (direct_backend.h). EINVAL without `direct`.
  static Outcome<BlockDevice> adopt_past_page_cache(UniqueFd buffered, UniqueFd direct, Access access);
  BlockDevice(std::unique_ptr<BlockBackend> backend, Access access);

  [[nodiscard]] std::uint64_t size() const { return geometry_.size; }
  // kReadOnly as well once writes are forbidden. Under an overlay: whether that still takes writes.
  [[nodiscard]] Access access() const {
    if (*writes_forbidden_) return Access::kReadOnly;
    if (overlay_) return overlay_->frozen() ? Access::kReadOnly : Access::kReadWrite;
    return access_;
  }
  // What offset and length of a direct transfer must be a multiple of; its memory, of a sector.
  [[nodiscard]] std::size_t direct_alignment() const;

  // Fills or writes the whole span, or fails. In pieces: one request for all of them.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) const;
  Result<void> read(std::uint64_t offset, std::span<const iovec> pieces) const;
  Result<void> write(std::uint64_t offset, std::span<const iovec> pieces) const;

  // The same past the page cache, where offset, length and memory are aligned; otherwise as read() and
  // write().
  Result<void> read_direct(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write_direct(std::uint64_t offset, std::span<const std::byte> from) const;
  Result<void> read_direct(std::uint64_t offset, std::span<const iovec> pieces) const;
  Result<void> write_direct(std::uint64_t offset, std::span<const iovec> pieces) const;

  // As write() or, kDirect, write_direct().
  Result<void> write_zeros(IoPath path, std::uint64_t offset, std::uint64_t length) const;

  // The bytes are of no use any more; what they read as afterwards is not defined. Whole sectors. EBUSY where
  // the device is mounted, and the page cache still has to write something there, or in the pages that the
  // range shares with its neighbours: a flush() may help (whose errors are the volume's to know). EOPNOTSUPP
  // if the device cannot; can_discard() says so without doing anything.
  Result<void> discard(std::uint64_t offset, std::uint64_t length) const;
  [[nodiscard]] Result<void> can_discard() const;

  // Of whole sectors, memory aligned to them: read from the medium, or handed to it when this returns.
  // Nothing else may go through the page cache for the same block of the volume: what it holds is not heeded.
  Result<void> read_past_cache(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write_past_cache(std::uint64_t offset, std::span<const std::byte> from) const;
  [[nodiscard]] std::size_t sector() const { return geometry_.sector; }

  // On the medium when it returns (FUA); other writes need not be.
  Result<void> write_durably(std::uint64_t offset, std::span<const std::byte> from) const;

  // Before the first write of a volume that is served: BlockBackend::stop_read_ahead().
  void stop_read_ahead() const { backend_->stop_read_ahead(); }

  // For good, at once, for all threads: every write from now on is refused with EROFS. What the page cache
  // has already taken may still be written by the kernel.
  void forbid_writes() { *writes_forbidden_ = true; }

  // From now on all reads see `overlay`, and all writes go into it until it is frozen, for good: a device
  // that was given one is never written again.
  void lay_over(std::unique_ptr<BlockOverlay> overlay) { overlay_ = std::move(overlay); }
  void freeze_overlay() {
    if (overlay_) overlay_->freeze();
  }
  [[nodiscard]] const BlockOverlay* overlay() const { return overlay_.get(); }

  // All that was written through here is on the medium when this returns (page cache and device cache). Costs
  // nothing where nothing was written since the last flush that succeeded.
  Result<void> flush() const;

  // Somebody else may have written to the device: the next flush() has something to do.
  void note_foreign_writes() const { ++writes_->done; }

  // Gives the backend's descriptors back. The device is free when this returns, as far as this process is
  // concerned.
  void close() { backend_.reset(); }

 private:
  [[nodiscard]] bool takes_direct(std::uint64_t offset, std::span<const iovec> pieces) const;
  [[nodiscard]] bool holds(std::uint64_t offset, std::size_t length) const;
  [[nodiscard]] Result<void> may_write(std::uint64_t offset, std::size_t length) const;
  Result<void> read_below(IoPath path, std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write_and_count(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                               Durability durability) const;

  std::unique_ptr<BlockBackend> backend_;
  Access access_ = Access::kReadOnly;
  BlockBackend::Geometry geometry_;
  // On the heap, so that the device can be moved.
  std::unique_ptr<std::atomic<bool>> writes_forbidden_ = std::make_unique<std::atomic<bool>>(false);
  // How many writes have returned, and how many of them are known to be on the medium.
  struct Writes {
    std::atomic<std::uint64_t> done{0};
    std::atomic<std::uint64_t> flushed{0};
  };
  std::unique_ptr<Writes> writes_ = std::make_unique<Writes>();
  std::unique_ptr<BlockOverlay> overlay_;
};

}  // namespace fuse4fs::cache
