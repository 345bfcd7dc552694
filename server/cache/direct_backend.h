// SPDX-License-Identifier: GPL-2.0-or-later
// A device of which nothing goes through the page cache: whoever else writes to it past that cache (the
// kernel, for files with iomap) never meets a stale or a dirty page.
//
// What is not of whole sectors, or lies in memory that is not aligned to them, is copied; a write of a part
// of a sector reads the rest first, and nobody else may write to that sector meanwhile.
//
// Locking: any thread. Errors: those of the backend below; ENOMEM.
#pragma once

#include <memory>

#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

class DirectBackend final : public BlockBackend {
 public:
  // `below` has_direct.
  explicit DirectBackend(std::unique_ptr<BlockBackend> below)
      : below_(std::move(below)), geometry_(below_->geometry()) {}

  [[nodiscard]] Geometry geometry() const override { return geometry_; }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override;
  Result<void> flush() override { return below_->flush(); }
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override {
    return below_->discard(offset, length);
  }
  void stop_read_ahead() override { below_->stop_read_ahead(); }
  Result<void> can_discard() override { return below_->can_discard(); }

 private:
  [[nodiscard]] bool is_aligned(std::uint64_t offset, std::span<const iovec> pieces) const;
  Result<void> read_copied(std::uint64_t offset, std::span<const iovec> pieces);
  Result<void> write_copied(std::uint64_t offset, std::span<const iovec> pieces, Durability durability);

  const std::unique_ptr<BlockBackend> below_;
  const Geometry geometry_;
};

}  // namespace fuse4fs::cache
