// SPDX-License-Identifier: GPL-2.0-or-later
#include <fmt/format.h>

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
  const DirectOutcome direct = read_directly(position, into, options);
  if (direct.outcome || direct.then != DirectOutcome::Then::kByPages)
    return direct.outcome ? Result<std::size_t>(direct.done) : fail(direct.outcome.error());
  judge_going_by_pages(direct, position);
  return read(position, into.subspan(direct.done));
}

File::DirectOutcome File::read_directly(std::uint64_t position, std::span<std::byte> into,
                                        const DirectOptions& options) {
  DirectOutcome out;
  const std::shared_lock lock(inode_lock_);
  const std::uint64_t size = size_;
  if (position >= size) return out;
  const auto ticket = ledger_.ticket();
  out.outcome = write_back({.offset = position, .length = into.size()});
  const std::uint64_t end = std::min(position + into.size(), size);
  while (out.outcome && position + out.done < end) {
    const std::uint64_t at = position + out.done;
    const auto answer = mapper_.begin(abi::kOpDirect | options.operation, at, into.size() - out.done, size);
    if (!answer) {
      out.stop(answer.error());
      break;
    }
    const std::uint64_t stop = std::min(end, answer->end());
    out.outcome = read_piece(*answer, at, into.subspan(out.done, stop - at));
    if (out.outcome) out.done += stop - at;
  }
  if (!out.outcome) return out;
  if (auto breach = ledger_.judge_read(ticket, FileLedger::Reader::kDirect, position, into.first(out.done)))
    core_.breaches.add(std::move(*breach));
  return out;
}

Result<void> File::read_piece(const Mapper::Answer& answer, std::uint64_t position,
                              std::span<std::byte> into) {
  switch (answer.source.type) {
    case abi::kMapped: {
      // Whole sectors.
      std::vector<std::byte> bytes((into.size() + Device::kLogicalBlock - 1) / Device::kLogicalBlock *
                                   Device::kLogicalBlock);
      RETURN_IF_ERROR(read_device(answer.source, position, bytes));
      std::memcpy(into.data(), bytes.data(), into.size());
      return {};
    }
    case abi::kInline:
      return read_inline(answer, position, into);
    case abi::kDelalloc:
      return fail(EIO);
    default:
      std::ranges::fill(into, std::byte{0});
      return {};
  }
}

void File::judge_going_by_pages(const DirectOutcome& direct, std::uint64_t position) {
  if (direct.done == 0) return;
  core_.breaches.add(Rule::kDirectRefusedLate, fmt::format("node {}: {} bytes behind {} were done directly",
                                                           id_.node, direct.done, position));
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
  const DirectOutcome direct = write_directly(position, from, options);
  if (direct.outcome || direct.then != DirectOutcome::Then::kByPages)
    return direct.outcome ? Result<std::size_t>(direct.done) : fail(direct.outcome.error());
  // Through the page cache, and to the device before it returns. The kernel does the same to one that must
  // not come in pieces.
  if (atomic) core_.breaches.add(Rule::kAtomicInPieces, "sent through the page cache");
  judge_going_by_pages(direct, position);
  const auto rest = from.subspan(direct.done);
  const std::unique_lock lock(inode_lock_);
  const auto buffered = write_locked(position, rest, {});
  RETURN_IF_ERROR(write_back({.offset = position, .length = rest.size()}));
  return buffered;
}

File::DirectOutcome File::write_directly(std::uint64_t position, std::span<const std::byte> from,
                                         const DirectOptions& options) {
  // Within the file and of whole blocks: beside others like it.
  const auto may_share = [&] {
    return position % block_ == 0 && from.size() % block_ == 0 && position + from.size() <= size_;
  };
  if (may_share()) {
    const std::shared_lock lock(inode_lock_);
    if (may_share()) return direct_write_locked(position, from, options);
  }
  const std::unique_lock lock(inode_lock_);
  DirectOutcome out;
  out.outcome = zero_behind(size_, position);
  return out.outcome ? direct_write_locked(position, from, options) : out;
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

void File::DirectOutcome::stop(Errno error) {
  // Kernels take this one for an end. Mapper has reported it.
  if (error == Errno(ENOTBLK)) return;
  outcome = fail(error);
  if (error == Errno(ENOSYS)) then = Then::kByPages;
}

File::DirectOutcome File::write_pieces(std::uint64_t position, std::span<const std::byte> from,
                                       std::uint32_t operation) {
  DirectOutcome out{.flags = abi::kIoendDirect};
  while (out.done < from.size()) {
    const std::uint64_t at = position + out.done;
    const auto answer = mapper_.begin(operation, at, from.size() - out.done, size_);
    if (!answer) {
      out.stop(answer.error());
      return out;
    }
    if (answer->mapping.type == abi::kInline) {
      out.stop(Errno(ENOSYS));
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
    out.outcome = written ? ended : fail(written.error());
    if (!out.outcome) return out;
  }
  return out;
}

File::DirectOutcome File::direct_write_locked(std::uint64_t position, std::span<const std::byte> from,
                                              const DirectOptions& options) {
  const ByteRange range{.offset = position, .length = from.size()};
  const FileLedger::Direct direct(ledger_, range);
  if (const auto written = write_back(range); !written) return {.outcome = written};
  // Somebody writes through a mapping of the file: then so must this, or it is tried again.
  if (!invalidate_pages(range)) {
    if ((options.operation & abi::kOpAtomic) != 0) return {.outcome = fail(EAGAIN)};
    return {.outcome = fail(ENOTBLK), .then = DirectOutcome::Then::kByPages};
  }
  times_changed_ = true;
  attributes_.expire();
  DirectOutcome out = write_pieces(position, from, abi::kOpDirect | abi::kOpWrite | options.operation);
  const int error = out.outcome ? 0 : out.outcome.error().value();
  if (core_.quirks.has(Quirk::kDirectAppendsUnsaid)) mapper_.set_disk_size(abi::kToEndOfFile);
  // An error is always told, and is then one of all that was written.
  const auto told =
      mapper_.ioend({.flags = out.flags, .error = error, .range = {.offset = position, .length = out.done}});
  if (out.outcome) out.outcome = told;
  if (!out.outcome) {
    ledger_.device_refused({.offset = position, .length = out.done});
  } else if (out.done > 0) {
    ledger_.wrote(position, from.first(out.done));
    // Under the exclusive lock: no other kind of direct write moves it.
    if (position + out.done > size_) size_ = position + out.done;
  }
  (void)invalidate_pages(range);
  return out;
}

}  // namespace fuse4fs::iomap_model
