// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/direct_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace fuse4fs::cache {
namespace {

// The largest copy at a time, in bytes.
constexpr std::size_t kMostCopied = 1 << 20;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<std::byte[], Free>;

Result<AlignedMemory> aligned_memory(std::size_t alignment, std::size_t size) {
  AlignedMemory memory(static_cast<std::byte*>(std::aligned_alloc(alignment, size)));
  if (!memory) return fail(ENOMEM);
  return memory;
}

// Goes through pieces by the bytes.
class Cursor {
 public:
  explicit Cursor(std::span<const iovec> pieces) : pieces_(pieces) {}

  // `length` of the next bytes, with `use` for each part that lies in one piece.
  template <class Use>
  void next(std::size_t length, Use use) {
    while (length > 0) {
      const iovec& piece = pieces_.front();
      const std::size_t part = std::min(length, piece.iov_len - inside_);
      use(std::span(static_cast<std::byte*>(piece.iov_base) + inside_, part));
      length -= part;
      inside_ += part;
      if (inside_ == piece.iov_len) {
        pieces_ = pieces_.subspan(1);
        inside_ = 0;
      }
    }
  }

 private:
  std::span<const iovec> pieces_;
  std::size_t inside_ = 0;
};

// A stretch of whole sectors that holds the next bytes of a transfer.
struct Stretch {
  std::uint64_t begin;   // on the device
  std::size_t length;    // of the sectors
  std::size_t head;      // bytes in front of what is transferred
  std::size_t transfer;  // bytes that are
};
Stretch stretch_at(std::uint64_t offset, std::size_t left, std::size_t sector) {
  Stretch stretch{};
  stretch.head = static_cast<std::size_t>(offset & (sector - 1));
  stretch.begin = offset - stretch.head;
  stretch.transfer = std::min(left, std::max(kMostCopied, sector) - stretch.head);
  stretch.length = (stretch.head + stretch.transfer + sector - 1) & ~(sector - 1);
  return stretch;
}

}  // namespace

bool DirectBackend::is_aligned(std::uint64_t offset, std::span<const iovec> pieces) const {
  const std::size_t mask = geometry_.sector - 1;
  return (offset & mask) == 0 && std::ranges::all_of(pieces, [mask](const iovec& piece) {
           return ((reinterpret_cast<std::uintptr_t>(piece.iov_base) | piece.iov_len) & mask) == 0;
         });
}

Result<void> DirectBackend::read(IoPath, std::uint64_t offset, std::span<const iovec> pieces) {
  if (is_aligned(offset, pieces)) return below_->read(IoPath::kDirect, offset, pieces);
  return read_copied(offset, pieces);
}

Result<void> DirectBackend::write(IoPath, std::uint64_t offset, std::span<const iovec> pieces,
                                  Durability durability) {
  if (is_aligned(offset, pieces)) return below_->write(IoPath::kDirect, offset, pieces, durability);
  return write_copied(offset, pieces, durability);
}

Result<void> DirectBackend::read_copied(std::uint64_t offset, std::span<const iovec> pieces) {
  Cursor cursor(pieces);
  for (std::size_t left = length_of(pieces); left > 0;) {
    const Stretch stretch = stretch_at(offset, left, geometry_.sector);
    ASSIGN_OR_RETURN(const auto memory, aligned_memory(geometry_.sector, stretch.length));
    const iovec whole = piece_of(std::span(memory.get(), stretch.length));
    RETURN_IF_ERROR(below_->read(IoPath::kDirect, stretch.begin, std::span(&whole, 1)));
    const std::byte* from = memory.get() + stretch.head;
    cursor.next(stretch.transfer, [&from](std::span<std::byte> part) {
      std::memcpy(part.data(), from, part.size());
      from += part.size();
    });
    offset += stretch.transfer;
    left -= stretch.transfer;
  }
  return {};
}

Result<void> DirectBackend::write_copied(std::uint64_t offset, std::span<const iovec> pieces,
                                         Durability durability) {
  Cursor cursor(pieces);
  for (std::size_t left = length_of(pieces); left > 0;) {
    const Stretch stretch = stretch_at(offset, left, geometry_.sector);
    ASSIGN_OR_RETURN(const auto memory, aligned_memory(geometry_.sector, stretch.length));
    const iovec whole = piece_of(std::span(memory.get(), stretch.length));
    if (stretch.length != stretch.transfer)
      RETURN_IF_ERROR(below_->read(IoPath::kDirect, stretch.begin, std::span(&whole, 1)));
    std::byte* to = memory.get() + stretch.head;
    cursor.next(stretch.transfer, [&to](std::span<const std::byte> part) {
      std::memcpy(to, part.data(), part.size());
      to += part.size();
    });
    left -= stretch.transfer;
    RETURN_IF_ERROR(below_->write(IoPath::kDirect, stretch.begin, std::span(&whole, 1),
                                  left == 0 ? durability : Durability::kAtNextFlush));
    offset += stretch.transfer;
  }
  return {};
}

}  // namespace fuse4fs::cache
