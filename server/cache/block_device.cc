// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_device.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "server/cache/descriptor_backend.h"
#include "server/cache/direct_backend.h"

namespace fuse4fs::cache {
namespace {

// Direct transfers are kept to whole pages of the device's page cache: a page of which one part is written
// through it and another one past it could be written back over the newer half, and the kernel, which finds
// such a page dirty behind a direct write, fails the next fdatasync(2) for it.
const auto kPage = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));

bool aligned(std::uint64_t value, std::size_t alignment) { return (value & (alignment - 1)) == 0; }

bool aligned(std::span<const iovec> pieces, std::size_t alignment) {
  return std::ranges::all_of(pieces, [alignment](const iovec& piece) {
    return aligned(reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len, alignment);
  });
}

}  // namespace

Outcome<BlockDevice> BlockDevice::adopt(UniqueFd buffered, UniqueFd direct, Access access) {
  ASSIGN_OR_RETURN(auto backend, DescriptorBackend::open(std::move(buffered), std::move(direct), access));
  return BlockDevice(std::move(backend), access);
}

Outcome<BlockDevice> BlockDevice::adopt_past_page_cache(UniqueFd buffered, UniqueFd direct, Access access) {
  if (!direct) return fail(Errno(EINVAL), "the device takes no direct I/O");
  ASSIGN_OR_RETURN(auto backend, DescriptorBackend::open(std::move(buffered), std::move(direct), access));
  return BlockDevice(std::make_unique<DirectBackend>(std::move(backend)), access);
}

BlockDevice::BlockDevice(std::unique_ptr<BlockBackend> backend, Access access)
    : backend_(std::move(backend)), access_(access), geometry_(backend_->geometry()) {}

std::size_t BlockDevice::direct_alignment() const { return std::max(kPage, geometry_.sector); }

bool BlockDevice::takes_direct(std::uint64_t offset, std::span<const iovec> pieces) const {
  return geometry_.has_direct && aligned(offset | length_of(pieces), direct_alignment()) &&
         aligned(pieces, sector());
}

bool BlockDevice::holds(std::uint64_t offset, std::size_t length) const {
  return offset <= size() && length <= size() - offset;
}

// Past the overlay.
Result<void> BlockDevice::read_below(IoPath path, std::uint64_t offset, std::span<std::byte> into) const {
  if (!holds(offset, into.size())) return fail(EIO);
  const iovec piece = piece_of(into);
  return backend_->read(path, offset, std::span(&piece, 1));
}

Result<void> BlockDevice::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (!overlay_) return read_below(IoPath::kPageCache, offset, into);
  if (!holds(offset, into.size())) return fail(EIO);
  return overlay_->read(offset, into, [this](std::uint64_t from, std::span<std::byte> part) {
    return read_below(IoPath::kPageCache, from, part);
  });
}

Result<void> BlockDevice::read(std::uint64_t offset, std::span<const iovec> pieces) const {
  if (!holds(offset, length_of(pieces))) return fail(EIO);
  if (!overlay_) return backend_->read(IoPath::kPageCache, offset, pieces);
  for (const iovec& piece : pieces) {
    RETURN_IF_ERROR(read(offset, std::span(static_cast<std::byte*>(piece.iov_base), piece.iov_len)));
    offset += piece.iov_len;
  }
  return {};
}

// Why a write of this range cannot be.
Result<void> BlockDevice::may_write(std::uint64_t offset, std::size_t length) const {
  // A regular file would grow.
  if (!holds(offset, length)) return fail(EIO);
  if (access() != Access::kReadWrite) return fail(EROFS);
  return {};
}

Result<void> BlockDevice::write(std::uint64_t offset, std::span<const std::byte> from) const {
  const iovec piece = piece_of(from);
  return write(offset, std::span(&piece, 1));
}

Result<void> BlockDevice::write(std::uint64_t offset, std::span<const iovec> pieces) const {
  RETURN_IF_ERROR(may_write(offset, length_of(pieces)));
  if (!overlay_) return write_and_count(IoPath::kPageCache, offset, pieces, Durability::kAtNextFlush);
  const auto below = [this](std::uint64_t from, std::span<std::byte> part) {
    return read_below(IoPath::kPageCache, from, part);
  };
  for (const iovec& piece : pieces) {
    const std::span from(static_cast<const std::byte*>(piece.iov_base), piece.iov_len);
    RETURN_IF_ERROR(overlay_->write(offset, from, below));
    offset += piece.iov_len;
  }
  return {};
}

Result<void> BlockDevice::write_durably(std::uint64_t offset, std::span<const std::byte> from) const {
  if (overlay_) return write(offset, from);
  RETURN_IF_ERROR(may_write(offset, from.size()));
  const iovec piece = piece_of(from);
  const std::span pieces(&piece, 1);
  return write_and_count(takes_direct(offset, pieces) ? IoPath::kDirect : IoPath::kPageCache, offset, pieces,
                         Durability::kAtOnce);
}

Result<void> BlockDevice::read_direct(std::uint64_t offset, std::span<std::byte> into) const {
  const iovec piece = piece_of(into);
  return read_direct(offset, std::span(&piece, 1));
}

Result<void> BlockDevice::read_direct(std::uint64_t offset, std::span<const iovec> pieces) const {
  const std::size_t length = length_of(pieces);
  if (!takes_direct(offset, pieces) || (overlay_ && overlay_->covers(offset, length)))
    return read(offset, pieces);
  if (!holds(offset, length)) return fail(EIO);
  return backend_->read(IoPath::kDirect, offset, pieces);
}

Result<void> BlockDevice::write_direct(std::uint64_t offset, std::span<const std::byte> from) const {
  const iovec piece = piece_of(from);
  return write_direct(offset, std::span(&piece, 1));
}

Result<void> BlockDevice::write_direct(std::uint64_t offset, std::span<const iovec> pieces) const {
  if (overlay_ || !takes_direct(offset, pieces)) return write(offset, pieces);
  RETURN_IF_ERROR(may_write(offset, length_of(pieces)));
  return write_and_count(IoPath::kDirect, offset, pieces, Durability::kAtNextFlush);
}

// Counted also where it failed: a part may have been written.
Result<void> BlockDevice::write_and_count(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                                          Durability durability) const {
  auto written = backend_->write(path, offset, pieces, durability);
  if (!written || durability != Durability::kAtOnce) ++writes_->done;
  return written;
}

Result<void> BlockDevice::read_past_cache(std::uint64_t offset, std::span<std::byte> into) const {
  const iovec piece = piece_of(into);
  if (!geometry_.has_direct || !aligned(offset, sector()) || !aligned(std::span(&piece, 1), sector()) ||
      (overlay_ && overlay_->covers(offset, into.size())))
    return read(offset, into);
  return read_below(IoPath::kDirect, offset, into);
}

Result<void> BlockDevice::write_past_cache(std::uint64_t offset, std::span<const std::byte> from) const {
  const iovec piece = piece_of(from);
  if (overlay_ || !geometry_.has_direct || !aligned(offset, sector()) ||
      !aligned(std::span(&piece, 1), sector())) {
    RETURN_IF_ERROR(write(offset, from));
    return flush();
  }
  RETURN_IF_ERROR(may_write(offset, from.size()));
  return backend_->write(IoPath::kDirect, offset, std::span(&piece, 1), Durability::kAtNextFlush);
}

Result<void> BlockDevice::write_zeros(IoPath path, std::uint64_t offset, std::uint64_t length) const {
  // As any device wants its memory for a direct transfer.
  alignas(4096) static constexpr std::array<std::byte, std::size_t{64} << 10> kZeros{};
  while (length > 0) {
    const std::span piece(kZeros.data(),
                          static_cast<std::size_t>(std::min<std::uint64_t>(length, kZeros.size())));
    RETURN_IF_ERROR(path == IoPath::kDirect ? write_direct(offset, piece) : write(offset, piece));
    offset += piece.size();
    length -= piece.size();
  }
  return {};
}

Result<void> BlockDevice::discard(std::uint64_t offset, std::uint64_t length) const {
  if (!holds(offset, length)) return fail(EIO);
  if (access() != Access::kReadWrite || overlay_) return fail(EROFS);
  return backend_->discard(offset, length);
}

Result<void> BlockDevice::can_discard() const { return backend_->can_discard(); }

Result<void> BlockDevice::flush() const {
  if (access() != Access::kReadWrite || overlay_) return {};
  // Writes that return while this one waits are the next flush's.
  const std::uint64_t done = writes_->done;
  if (writes_->flushed >= done) return {};
  RETURN_IF_ERROR(backend_->flush());
  std::uint64_t flushed = writes_->flushed;
  while (flushed < done && !writes_->flushed.compare_exchange_weak(flushed, done)) {
  }
  return {};
}

}  // namespace fuse4fs::cache
