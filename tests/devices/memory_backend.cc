// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/devices/memory_backend.h"

#include <algorithm>
#include <cstring>

namespace fuse4fs::cache {

std::string Memory::read(std::uint64_t offset, std::size_t length) const {
  const std::lock_guard lock(mutex_);
  return {reinterpret_cast<const char*>(bytes_.data()) + offset, length};
}

void Memory::write(std::uint64_t offset, std::string_view text) {
  const std::lock_guard lock(mutex_);
  std::memcpy(bytes_.data() + offset, text.data(), text.size());
}

Result<void> MemoryBackend::read(IoPath, std::uint64_t offset, std::span<const iovec> pieces) {
  const std::lock_guard lock(memory_->mutex_);
  for (const iovec& piece : pieces) {
    std::memcpy(piece.iov_base, memory_->bytes_.data() + offset, piece.iov_len);
    offset += piece.iov_len;
  }
  return {};
}

Result<void> MemoryBackend::write(IoPath, std::uint64_t offset, std::span<const iovec> pieces, Durability) {
  const std::lock_guard lock(memory_->mutex_);
  for (const iovec& piece : pieces) {
    std::memcpy(memory_->bytes_.data() + offset, piece.iov_base, piece.iov_len);
    offset += piece.iov_len;
  }
  return {};
}

Result<void> MemoryBackend::discard(std::uint64_t offset, std::uint64_t length) {
  const std::lock_guard lock(memory_->mutex_);
  std::fill_n(memory_->bytes_.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
  return {};
}

}  // namespace fuse4fs::cache
