// SPDX-License-Identifier: GPL-2.0-or-later
// A device by two descriptors of it that the helper opened: one through the device's page cache, one
// O_DIRECT.
//
// The kernel keeps the two coherent: a direct transfer writes back and drops what the page cache holds of its
// range first. Each transfer that ends is a step of the calling thread (base/activity.h).
//
// Locking: none; there is no state but the descriptors.
// Errors: EIO and whatever else preadv(2), pwritev(2), fdatasync(2) and BLKDISCARD give.
#pragma once

#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/cache/block_backend.h"
#include "server/cache/block_device.h"

namespace fuse4fs::cache {

class DescriptorBackend final : public BlockBackend {
 public:
  // Checks that both are block devices (or regular files, for tests) of the same size, with the access that
  // was asked for. `direct` may be empty.
  static Outcome<std::unique_ptr<DescriptorBackend>> open(UniqueFd buffered, UniqueFd direct, Access access);

  [[nodiscard]] Geometry geometry() const override { return geometry_; }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override;
  Result<void> flush() override;
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  void stop_read_ahead() override;
  Result<void> can_discard() override;

 private:
  DescriptorBackend() = default;
  [[nodiscard]] int descriptor(IoPath path) const {
    return path == IoPath::kDirect ? direct_.get() : buffered_.get();
  }

  UniqueFd buffered_;
  UniqueFd direct_;
  bool block_device_ = false;
  Geometry geometry_;
};

}  // namespace fuse4fs::cache
