// SPDX-License-Identifier: GPL-2.0-or-later
// One device that several have: each owns a SharedBackend, and all that is asked of it goes to the same one.
//
// Locking: that of the device.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

class SharedBackend final : public BlockBackend {
 public:
  explicit SharedBackend(std::shared_ptr<BlockBackend> device) : device_(std::move(device)) {}

  [[nodiscard]] Geometry geometry() const override { return device_->geometry(); }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override {
    return device_->read(path, offset, pieces);
  }
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override {
    return device_->write(path, offset, pieces, durability);
  }
  Result<void> flush() override { return device_->flush(); }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    return device_->discard(offset, length);
  }
  void stop_read_ahead() override { device_->stop_read_ahead(); }
  Result<void> can_discard() override { return device_->can_discard(); }

 private:
  const std::shared_ptr<BlockBackend> device_;
};

}  // namespace fuse4fs::cache
