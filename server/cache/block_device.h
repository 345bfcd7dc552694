// SPDX-License-Identifier: GPL-2.0-or-later
// The device of one volume: all device I/O of the server goes through this class.
//
// It holds two descriptors of the same device that the helper opened. One goes through the device's page
// cache and takes any offset and length: metadata, and small or unaligned pieces of file data. One is
// O_DIRECT: large aligned file data, so that nothing is cached twice. The kernel keeps the two coherent: a
// direct transfer writes back and drops what the page cache holds of its range first.
//
// Each transfer that ends is a step of the calling thread (base/activity.h).
//
// A BlockOverlay may lie over it: then all that is read is read through that, whatever way, and nothing is
// written to the device any more.
//
// Offsets and lengths are in bytes. Any thread; there is no state but the descriptors, forbid_writes() and
// the overlay, which is laid and frozen while one thread has the device.
// Errors: EIO and whatever else pread(2), pwrite(2) and fdatasync(2) give; a short transfer at the device's
// end is EIO.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/cache/block_overlay.h"

namespace fuse4fs::cache {

enum class Access { kReadOnly, kReadWrite };

class BlockDevice {
 public:
  // Checks that both are block devices (or regular files, for tests) of the same size, with the access that
  // was asked for. `direct` may be empty: then everything goes through `buffered`.
  static Outcome<BlockDevice> adopt(UniqueFd buffered, UniqueFd direct, Access access);

  [[nodiscard]] std::uint64_t size() const { return size_; }
  // kReadOnly as well once writes are forbidden. Under an overlay: whether that still takes writes.
  [[nodiscard]] Access access() const {
    if (*writes_forbidden_) return Access::kReadOnly;
    if (overlay_) return overlay_->frozen() ? Access::kReadOnly : Access::kReadWrite;
    return access_;
  }
  // What offset, length and memory of a direct transfer must be a multiple of.
  [[nodiscard]] std::size_t direct_alignment() const { return direct_alignment_; }

  // Fills or writes the whole span, or fails.
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from) const;

  // The same past the page cache, where offset, length and memory are aligned; otherwise as read() and
  // write().
  Result<void> read_direct(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write_direct(std::uint64_t offset, std::span<const std::byte> from) const;

  // The bytes are of no use any more; what they read as afterwards is not defined. Whole sectors. EOPNOTSUPP
  // if the device cannot; can_discard() says so without doing anything.
  Result<void> discard(std::uint64_t offset, std::uint64_t length) const;
  [[nodiscard]] Result<void> can_discard() const;

  // Of whole sectors, memory aligned to them: read from the medium, or handed to it when this returns.
  // Nothing else may go through the page cache for the same block of the volume: what it holds is not heeded.
  Result<void> read_past_cache(std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write_past_cache(std::uint64_t offset, std::span<const std::byte> from) const;
  [[nodiscard]] std::size_t sector() const { return sector_; }

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

  // Gives both descriptors back. The device is free when this returns, as far as this process is concerned.
  void close();

 private:
  BlockDevice() = default;
  Result<void> read_below(int fd, std::uint64_t offset, std::span<std::byte> into) const;
  Result<void> write_and_count(int fd, std::uint64_t offset, std::span<const std::byte> from) const;
  Result<void> sync_page_cache() const;

  UniqueFd buffered_;
  UniqueFd direct_;
  Access access_ = Access::kReadOnly;
  bool block_device_ = false;
  std::uint64_t size_ = 0;
  std::size_t direct_alignment_ = 0;
  std::size_t sector_ = 0;
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
