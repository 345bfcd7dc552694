// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstring>
#include <mutex>

#include "tests/iomap/file.h"

namespace fuse4fs::iomap_model {

namespace {

bool is_aligned(std::uint64_t position, std::uint64_t length) {
  return position % Device::kLogicalBlock == 0 && length % Device::kLogicalBlock == 0;
}

}  // namespace

Result<std::size_t> File::direct_read(std::uint64_t position, std::span<std::byte> into,
                                      const DirectOptions& options) {
  if (!is_aligned(position, into.size())) return fail(EINVAL);
  const std::shared_lock lock(inode_lock_);
  const std::uint64_t size = size_;
  if (position >= size) return 0;
  const auto ticket = ledger_.ticket();
  RETURN_IF_ERROR(write_back({.offset = position, .length = into.size()}));
  const std::uint64_t end = std::min(position + into.size(), size);
  for (std::uint64_t at = position; at < end;) {
    ASSIGN_OR_RETURN(const auto answer, mapper_.begin(abi::kOpDirect | options.operation, at,
                                                      position + into.size() - at, size));
    const std::uint64_t stop = std::min(end, answer.end());
    const auto out = into.subspan(at - position, stop - at);
    switch (answer.source.type) {
      case abi::kMapped: {
        // Whole sectors.
        std::vector<std::byte> bytes((out.size() + Device::kLogicalBlock - 1) / Device::kLogicalBlock *
                                     Device::kLogicalBlock);
        RETURN_IF_ERROR(read_device(answer.source, at, bytes));
        std::memcpy(out.data(), bytes.data(), out.size());
        break;
      }
      case abi::kInline:
        RETURN_IF_ERROR(read_inline(at, out));
        break;
      case abi::kDelalloc:
        return fail(EIO);
      default:
        std::ranges::fill(out, std::byte{0});
    }
    at = stop;
  }
  const auto read = into.first(end - position);
  if (auto breach = ledger_.judge_read(ticket, FileLedger::Reader::kDirect, position, read))
    core_.breaches.add(std::move(*breach));
  return read.size();
}

Result<std::size_t> File::direct_write(std::uint64_t position, std::span<const std::byte> from,
                                       const DirectOptions& options) {
  const bool atomic = (options.operation & abi::kOpAtomic) != 0;
  if (atomic && (flags_ & abi::kAtomic) == 0) return fail(EOPNOTSUPP);
  if (atomic && (from.size() != block_ || position % block_ != 0)) return fail(EINVAL);
  if (!is_aligned(position, from.size())) return fail(EINVAL);
  const FreezeGate::Writer writer(core_.gate);
  ASSIGN_OR_RETURN(const std::uint64_t fits, limit_write(position, from.size()));
  // What is left of it may not be whole sectors.
  if (fits % Device::kLogicalBlock != 0) return fail(EINVAL);
  from = from.first(fits);
  // Within the file and of whole blocks: beside others like it.
  const auto may_share = [&] {
    return position % block_ == 0 && from.size() % block_ == 0 && position + from.size() <= size_;
  };
  if (may_share()) {
    const std::shared_lock lock(inode_lock_);
    if (may_share()) return direct_write_locked(position, from, options);
  }
  const std::unique_lock lock(inode_lock_);
  RETURN_IF_ERROR(zero_behind(size_, position));
  const auto written = direct_write_locked(position, from, options);
  if (written || (written.error() != Errno(ENOTBLK) && written.error() != Errno(ENOSYS))) return written;
  // Through the page cache, and to the device before it returns. The kernel does the same to one that must
  // not come in pieces.
  if (atomic) core_.breaches.add(Rule::kAtomicInPieces, "sent through the page cache");
  const auto buffered = write_locked(position, from, {});
  RETURN_IF_ERROR(write_back({.offset = position, .length = from.size()}));
  return buffered;
}

bool File::invalidate_pages(ByteRange range) {
  bool all = true;
  for (const auto& folio : pages_.within(range)) {
    const std::lock_guard lock(folio->lock);
    folio->wait_for_writeback();
    if (folio->removed) continue;
    if (folio->any_dirty())
      all = false;
    else
      pages_.remove(*folio);
  }
  return all;
}

Result<void> File::write_piece(const abi::Mapping& mapping, std::uint64_t position,
                               std::span<const std::byte> from) {
  // The rest of blocks that hold nothing yet becomes zeros.
  const bool is_new = mapping.type == abi::kUnwritten || (mapping.flags & abi::kNew) != 0;
  const std::uint64_t end = position + from.size();
  const std::uint64_t head = is_new ? position - round_down(position) : 0;
  const std::uint64_t tail = is_new || end > size_ ? round_up(end) - end : 0;
  if (head == 0 && tail == 0) return write_device(mapping, position, from);
  std::vector<std::byte> bytes(head + from.size() + tail);
  std::ranges::copy(from, bytes.begin() + static_cast<std::ptrdiff_t>(head));
  return write_device(mapping, position - head, bytes);
}

File::DirectOutcome File::write_pieces(std::uint64_t position, std::span<const std::byte> from,
                                       std::uint32_t operation) {
  DirectOutcome out{.flags = abi::kIoendDirect};
  while (out.done < from.size()) {
    const std::uint64_t at = position + out.done;
    const auto answer = mapper_.begin(operation, at, from.size() - out.done, size_);
    if (!answer) {
      out.outcome = fail(answer.error());
      return out;
    }
    if (answer->mapping.type == abi::kInline) {
      out.outcome = fail(ENOTBLK);
      return out;
    }
    const std::uint64_t count = std::min<std::uint64_t>(answer->end() - at, from.size() - out.done);
    if (answer->mapping.type == abi::kUnwritten) out.flags |= abi::kIoendUnwritten;
    if ((answer->mapping.flags & abi::kShared) != 0) out.flags |= abi::kIoendShared;
    const auto written = write_piece(answer->mapping, at, from.subspan(out.done, count));
    // It is submitted; how it ends is told by IOEND.
    const auto ended =
        mapper_.end(*answer, {.operation = operation, .position = at, .count = count, .written = count});
    out.done += count;
    if (!written) {
      out.device_error = written.error().value();
      return out;
    }
    if (!ended) {
      out.outcome = ended;
      return out;
    }
  }
  return out;
}

Result<std::size_t> File::direct_write_locked(std::uint64_t position, std::span<const std::byte> from,
                                              const DirectOptions& options) {
  const ByteRange range{.offset = position, .length = from.size()};
  const FileLedger::Direct direct(ledger_, range);
  RETURN_IF_ERROR(write_back(range));
  // Somebody writes through a mapping of the file: then so must this, or it is tried again.
  if (!invalidate_pages(range)) return fail((options.operation & abi::kOpAtomic) != 0 ? EAGAIN : ENOTBLK);
  times_changed_ = true;
  attributes_.expire();
  auto out = write_pieces(position, from, abi::kOpDirect | abi::kOpWrite | options.operation);
  bool failed = out.device_error != 0 || (!out.outcome && out.done == from.size());
  if (out.done > 0) {
    const auto told = mapper_.ioend(
        {.flags = out.flags, .error = out.device_error, .range = {.offset = position, .length = out.done}});
    if (out.device_error != 0) out.outcome = fail(out.device_error);
    if (out.outcome && !told) out.outcome = told;
    // Not even of a part of it is it known that it is there.
    failed |= !told;
  }
  if (failed) {
    ledger_.device_refused({.offset = position, .length = out.done});
  } else if (out.done > 0) {
    ledger_.wrote(position, from.first(out.done));
    // Under the exclusive lock: no other kind of direct write moves it.
    if (position + out.done > size_) size_ = position + out.done;
  }
  (void)invalidate_pages(range);
  if (failed || out.done == 0) return fail(out.outcome ? Errno(EIO) : out.outcome.error());
  return out.done;
}

}  // namespace fuse4fs::iomap_model
