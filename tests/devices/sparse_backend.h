// SPDX-License-Identifier: GPL-2.0-or-later
// A device on which blocks of zeros take no room: they are discarded, and must read as zeros then, as in a
// sparse file.
//
// Locking: that of the device below.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

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
    if (std::ranges::all_of(pieces, is_zero)) return file_->discard(offset, length_of(pieces));
    return file_->write(path, offset, pieces, durability);
  }
  Result<void> flush() override { return file_->flush(); }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    return file_->discard(offset, length);
  }
  Result<void> can_discard() override { return file_->can_discard(); }

 private:
  static bool is_zero(const iovec& piece) {
    const char* const bytes = static_cast<const char*>(piece.iov_base);
    return piece.iov_len == 0 || (*bytes == 0 && std::memcmp(bytes, bytes + 1, piece.iov_len - 1) == 0);
  }

  const std::unique_ptr<BlockBackend> file_;
};

}  // namespace fuse4fs::cache
