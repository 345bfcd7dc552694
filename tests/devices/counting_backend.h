// SPDX-License-Identifier: GPL-2.0-or-later
// A device that counts what is asked of it, and passes on only what lies inside of it.
//
// Locking: any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

// Shared by the device and its test.
struct RequestCounts {
  std::atomic<std::uint64_t> changes{0};  // writes and discards
  std::atomic<std::uint64_t> outside{0};  // of any kind, answered with EIO
};

class CountingBackend final : public BlockBackend {
 public:
  CountingBackend(std::unique_ptr<BlockBackend> device, std::shared_ptr<RequestCounts> counts)
      : device_(std::move(device)), counts_(std::move(counts)) {}

  [[nodiscard]] Geometry geometry() const override { return device_->geometry(); }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override {
    RETURN_IF_ERROR(judge(offset, length_of(pieces)));
    return device_->read(path, offset, pieces);
  }
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override {
    ++counts_->changes;
    RETURN_IF_ERROR(judge(offset, length_of(pieces)));
    return device_->write(path, offset, pieces, durability);
  }
  Result<void> flush() override { return device_->flush(); }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    ++counts_->changes;
    RETURN_IF_ERROR(judge(offset, length));
    return device_->discard(offset, length);
  }
  Result<void> can_discard() override { return device_->can_discard(); }

 private:
  [[nodiscard]] Result<void> judge(std::uint64_t offset, std::uint64_t length) const {
    const std::uint64_t size = device_->geometry().size;
    if (offset <= size && length <= size - offset) return {};
    ++counts_->outside;
    return fail(EIO);
  }

  const std::unique_ptr<BlockBackend> device_;
  const std::shared_ptr<RequestCounts> counts_;
};

}  // namespace fuse4fs::cache
