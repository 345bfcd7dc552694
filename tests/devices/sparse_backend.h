// SPDX-License-Identifier: GPL-2.0-or-later
// A device on which blocks of zeros take no room: they are discarded, and must read as zeros then, as in a
// sparse file.
//
// Locking: that of the device below.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "base/zeros.h"
#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

class SparseBackend final : public BlockBackend {
 public:
  explicit SparseBackend(std::unique_ptr<BlockBackend> file) : file_(std::move(file)) {}

  [[nodiscard]] Geometry geometry() const override { return file_->geometry(); }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override {
    return file_->read(path, offset, pieces);
  }
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override {
    const auto is_all_zero = [](const iovec& piece) {
      return is_zero(std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len));
    };
    if (std::ranges::all_of(pieces, is_all_zero)) return file_->discard(offset, length_of(pieces));
    return file_->write(path, offset, pieces, durability);
  }
  Result<void> flush() override { return file_->flush(); }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    return file_->discard(offset, length);
  }
  Result<void> can_discard() override { return file_->can_discard(); }

 private:
  const std::unique_ptr<BlockBackend> file_;
};

}  // namespace fuse4fs::cache
