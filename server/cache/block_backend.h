// SPDX-License-Identifier: GPL-2.0-or-later
// The seam under BlockDevice: what a device can be asked for, and nothing that judges or counts.
//
// DescriptorBackend is the real one. The tests have others (tests/devices): one in memory, one that records,
// one that fails.
//
// Offsets and lengths are in bytes. Locking: any thread, any number at a time.
// Errors: those of the device. What was asked for is done whole or has failed; a write that failed may have
// been done in part.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace fuse4fs::cache {

// kPageCache takes any offset and length. kDirect goes past the page cache; offset, lengths and memory are
// multiples of the sector.
enum class IoPath : std::uint8_t { kPageCache, kDirect };

// When a write is on the medium: with the next flush(), or when it returns (FUA; what was written before it
// need not be).
enum class Durability : std::uint8_t { kAtNextFlush, kAtOnce };

class BlockBackend {
 public:
  struct Geometry {
    std::uint64_t size = 0;
    std::size_t sector = 512;  // a power of two
    bool has_direct = false;   // whether IoPath::kDirect may be asked for
  };

  BlockBackend() = default;
  BlockBackend(const BlockBackend&) = delete;
  BlockBackend& operator=(const BlockBackend&) = delete;
  virtual ~BlockBackend() = default;

  [[nodiscard]] virtual Geometry geometry() const = 0;
  // Into and from the pieces, one behind the other; the range lies inside of the device.
  virtual Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) = 0;
  virtual Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                             Durability durability) = 0;
  // Every write that has returned is on the medium when this does.
  virtual Result<void> flush() = 0;
  virtual Result<void> discard(std::uint64_t offset, std::uint64_t length) = 0;
  // Reads through the page cache bring nothing else along from now on, where there is another way for large
  // ones.
  virtual void stop_read_ahead() {}
  // EOPNOTSUPP if it would answer so; discards nothing.
  virtual Result<void> can_discard() = 0;
};

// How many bytes the pieces have.
inline std::size_t length_of(std::span<const iovec> pieces) {
  std::size_t length = 0;
  for (const iovec& piece : pieces) length += piece.iov_len;
  return length;
}

// One piece of them. A write only reads it.
inline iovec piece_of(std::span<std::byte> bytes) { return {bytes.data(), bytes.size()}; }
inline iovec piece_of(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace fuse4fs::cache
