// SPDX-License-Identifier: GPL-2.0-or-later
// A device that the server registered, as the kernel uses it. Writes can be made to fail, and it is known
// what was written since the last flush.
//
// Any thread. Bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "base/result.h"
#include "server/cache/block_backend.h"

namespace fuse4fs::iomap_model {

class Device {
 public:
  static constexpr std::uint64_t kLogicalBlock = 512;
  // By which a medium knows what comes from here: the server goes past the page cache.
  static constexpr cache::IoPath kPath = cache::IoPath::kPageCache;

  // `fd` is the server's: it is duplicated. With a medium, that is what is read and written instead.
  static Result<std::unique_ptr<Device>> open(int fd, std::shared_ptr<cache::BlockBackend> medium);

  [[nodiscard]] std::uint64_t size() const { return size_; }
  Result<void> read(std::uint64_t address, std::span<std::byte> into) const;
  // Answers the number of this write, for is_flushed().
  Result<std::uint64_t> write(std::uint64_t address, std::span<const std::byte> from);
  [[nodiscard]] bool is_zero(std::uint64_t address, std::uint64_t length) const;

  // So many of the next writes fail with EIO, and leave the medium as it was.
  void fail_writes(std::size_t count) { failing_ = count; }

  // The server's flushes, told by VolumeWatch.
  std::uint64_t flush_begins() const { return written_; }
  void flush_ended(std::uint64_t began);
  [[nodiscard]] bool is_flushed(std::uint64_t write) const { return write <= flushed_; }

 private:
  explicit Device(std::shared_ptr<cache::BlockBackend> medium)
      : medium_(std::move(medium)), size_(medium_->geometry().size) {}

  const std::shared_ptr<cache::BlockBackend> medium_;
  const std::uint64_t size_;
  std::atomic<std::size_t> failing_ = 0;
  std::atomic<std::uint64_t> written_ = 0, flushed_ = 0;
};

}  // namespace fuse4fs::iomap_model
