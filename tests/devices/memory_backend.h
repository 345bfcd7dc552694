// SPDX-License-Identifier: GPL-2.0-or-later
// A device in memory. What it holds can be looked at and changed behind the server's back.
//
// Locking: any thread; one lock, held for each copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "server/cache/block_backend.h"

namespace fuse4fs::cache {

// Shared by the device and its test.
class Memory {
 public:
  explicit Memory(std::size_t size) : bytes_(size) {}
  explicit Memory(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::string read(std::uint64_t offset, std::size_t length) const;
  void write(std::uint64_t offset, std::string_view text);

 private:
  friend class MemoryBackend;
  mutable std::mutex mutex_;
  std::vector<std::byte> bytes_;
};

class MemoryBackend final : public BlockBackend {
 public:
  explicit MemoryBackend(std::shared_ptr<Memory> memory) : memory_(std::move(memory)) {}

  [[nodiscard]] Geometry geometry() const override {
    return {.size = memory_->size(), .sector = 512, .has_direct = true};
  }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability durability) override;
  Result<void> flush() override { return {}; }
  // To zeros.
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  Result<void> can_discard() override { return {}; }

 private:
  const std::shared_ptr<Memory> memory_;
};

}  // namespace fuse4fs::cache
