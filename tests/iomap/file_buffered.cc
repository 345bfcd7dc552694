// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/iomap/file.h"

namespace fuse4fs::iomap_model {

namespace {

// Whether what the device holds there is the file's.
bool has_data(const abi::Mapping& mapping, std::uint64_t position, std::uint64_t size) {
  return mapping.type == abi::kMapped && (mapping.flags & abi::kNew) == 0 && position < size;
}

}  // namespace

Result<void> File::fill_part(Folio& folio, const Mapper::Answer& answer, ByteRange part) {
  const auto bytes = folio.bytes(part);
  if (answer.source.type == abi::kInline) {
    // When it grows the server itself puts it into a block.
    ledger_.device_written({.offset = 0, .length = block_});
    std::ranges::fill(bytes, std::byte{0});
    const std::uint64_t size = std::max(size_.load(), part.offset) - part.offset;
    RETURN_IF_ERROR(
        read_inline(answer, part.offset, bytes.first(std::min<std::uint64_t>(bytes.size(), size))));
  } else if (has_data(answer.source, part.offset, size_)) {
    RETURN_IF_ERROR(read_device(answer.source, part.offset, bytes));
  } else {
    std::ranges::fill(bytes, std::byte{0});
  }
  folio.mark(folio.uptodate, part);
  return {};
}

Result<void> File::fill(Folio& folio, ByteRange range) {
  const std::uint64_t size = size_;
  const std::uint64_t end = round_up(range.offset + range.length);
  for (std::uint64_t at = round_down(range.offset); at < end;) {
    if (folio.is_uptodate({.offset = at, .length = block_})) {
      at += block_;
      continue;
    }
    std::uint64_t stop = at + block_;
    while (stop < end && !folio.is_uptodate({.offset = stop, .length = block_})) stop += block_;
    if (at >= size) {
      std::ranges::fill(folio.bytes({.offset = at, .length = stop - at}), std::byte{0});
      folio.mark(folio.uptodate, {.offset = at, .length = stop - at});
      at = stop;
      continue;
    }
    // Asked for beyond the end as well.
    ASSIGN_OR_RETURN(const auto answer, mapper_.begin(0, at, stop - at, size));
    stop = std::min(stop, round_up(size));
    const ByteRange part{.offset = at, .length = std::min(stop, answer.end()) - at};
    RETURN_IF_ERROR(fill_part(folio, answer, part));
    at += part.length;
  }
  return {};
}

Result<void> File::read_ahead(std::uint64_t position) {
  const std::shared_lock no_removal(invalidate_lock_);
  const std::uint64_t size = size_;
  const std::uint64_t begin = position / pages_.folio_size() * pages_.folio_size();
  if (begin >= size) return {};
  {
    auto first = pages_.lock_existing(begin);
    if (first) return fill(*first, {.offset = begin, .length = first->data.size()});
  }
  // New ones, as many as are missing in a row.
  std::vector<LockedFolio> folios;
  for (std::uint64_t at = begin; at < size && at - begin < kReadAhead; at += pages_.folio_size()) {
    if (at != begin && pages_.within({.offset = at, .length = 1}).size() == 1) break;
    folios.push_back(pages_.lock(at));
  }
  const std::uint64_t end = std::min(folios.back()->end(), round_up(size));
  for (std::uint64_t at = begin; at < end;) {
    ASSIGN_OR_RETURN(const auto answer, mapper_.begin(0, at, folios.back()->end() - at, size));
    const ByteRange mapped{.offset = at, .length = std::min(end, answer.end()) - at};
    for (const auto& folio : folios) {
      const ByteRange part = folio->part(mapped);
      if (part.length == 0) continue;
      // Somebody may have made this one meanwhile, and written to it.
      for (std::uint64_t block = part.offset; block < part.offset + part.length; block += block_)
        if (!folio->is_uptodate({.offset = block, .length = block_}))
          RETURN_IF_ERROR(fill_part(*folio, answer, {.offset = block, .length = block_}));
    }
    at += mapped.length;
  }
  return fill(*folios.back(), {.offset = folios.back()->offset, .length = pages_.folio_size()});
}

Result<std::size_t> File::read(std::uint64_t position, std::span<std::byte> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const std::uint64_t at = position + done;
    if (at >= size_) break;
    const auto ticket = ledger_.ticket();
    auto folio = pages_.lock_existing(at);
    const ByteRange wanted{.offset = at, .length = into.size() - done};
    if (!folio || !folio->is_uptodate(folio->part(wanted))) {
      folio = {};
      RETURN_IF_ERROR(read_ahead(at));
      continue;
    }
    // Asked again, now that the page is there: what lies behind is not the file's.
    const std::uint64_t size = size_;
    if (at >= size) break;
    const std::uint64_t count = std::min(folio->part(wanted).length, size - at);
    const auto out = into.subspan(done, count);
    std::ranges::copy(folio->bytes({.offset = at, .length = count}), out.begin());
    if (auto breach = ledger_.judge_read(ticket, FileLedger::Reader::kPage, at, out))
      core_.breaches.add(std::move(*breach));
    done += count;
  }
  return done;
}

Result<void> File::prepare(Folio& folio, const Mapper::Answer& answer, ByteRange range) {
  const std::uint64_t end = range.offset + range.length;
  for (std::uint64_t at = round_down(range.offset); at < end; at += block_) {
    const bool whole = at >= range.offset && at + block_ <= end;
    if (whole || folio.is_uptodate({.offset = at, .length = block_})) continue;
    RETURN_IF_ERROR(fill_part(folio, answer, {.offset = at, .length = block_}));
  }
  return {};
}

File::Copied File::copy_in(const Mapper::Answer& answer, std::uint64_t position,
                           std::span<const std::byte> from, std::size_t readable) {
  Copied copied;
  const std::uint64_t count = std::min(from.size(), readable);
  while (copied.bytes < count) {
    const std::uint64_t at = position + copied.bytes;
    auto folio = pages_.lock(at);
    if (!mapper_.is_current(answer)) {
      copied.flags |= abi::kStale;
      return copied;
    }
    const ByteRange part = folio->part({.offset = at, .length = count - copied.bytes});
    copied.outcome = prepare(*folio, answer, part);
    if (!copied.outcome) return copied;
    const auto bytes = from.subspan(copied.bytes, part.length);
    std::ranges::copy(bytes, folio->bytes(part).begin());
    folio->mark(folio->uptodate, part);
    folio->mark(folio->dirty, part);
    ledger_.wrote(at, bytes);
    copied.bytes += part.length;
    if (at + part.length > size_) {
      size_ = at + part.length;
      copied.flags |= abi::kSizeChanged;
    }
  }
  if (copied.bytes < from.size()) copied.outcome = fail(EFAULT);
  return copied;
}

File::Copied File::copy_inline(std::uint64_t position, std::span<const std::byte> from) {
  Copied copied;
  auto folio = pages_.lock(position);
  const ByteRange part = folio->part({.offset = position, .length = from.size()});
  const auto bytes = from.first(part.length);
  copied.outcome = fill(*folio, {.offset = folio->offset, .length = block_});
  ledger_.device_written({.offset = 0, .length = block_});
  if (copied.outcome) copied.outcome = write_inline(position, bytes);
  if (!copied.outcome) return copied;
  std::ranges::copy(bytes, folio->bytes(part).begin());
  folio->mark(folio->uptodate, part);
  ledger_.wrote(position, bytes);
  copied.bytes = part.length;
  if (position + part.length > size_) {
    size_ = position + part.length;
    copied.flags |= abi::kSizeChanged;
  }
  mapper_.cache().invalidate({.offset = round_down(position), .length = block_});
  return copied;
}

Result<void> File::zero_behind(std::uint64_t old_size, std::uint64_t position) {
  return position > old_size ? zero_range({.offset = old_size, .length = position - old_size})
                             : Result<void>();
}

Result<std::size_t> File::write(std::uint64_t position, std::span<const std::byte> from,
                                const WriteOptions& options) {
  const FreezeGate::Writer writer(core_.gate);
  const std::unique_lock lock(inode_lock_);
  return write_locked(position, from, options);
}

Result<std::size_t> File::write_locked(std::uint64_t position, std::span<const std::byte> from,
                                       const WriteOptions& options) {
  ASSIGN_OR_RETURN(const std::uint64_t fits, limit_write(position, from.size()));
  from = from.first(fits);
  RETURN_IF_ERROR(zero_behind(size_, position));
  times_changed_ = true;
  attributes_.expire();
  const std::uint32_t operation = abi::kOpWrite | options.operation;
  std::size_t done = 0;
  while (done < from.size()) {
    const std::uint64_t at = position + done;
    const auto answer = mapper_.begin(operation, at, from.size() - done, size_);
    if (!answer) return done > 0 ? Result<std::size_t>(done) : fail(answer.error());
    const std::uint64_t count = std::min<std::uint64_t>(answer->end() - at, from.size() - done);
    const auto piece = from.subspan(done, count);
    const Copied copied =
        answer->mapping.type == abi::kInline
            ? copy_inline(at, piece)
            : copy_in(*answer, at, piece, options.readable - std::min(options.readable, done));
    const auto ended = mapper_.end(*answer, {.operation = operation,
                                             .position = at,
                                             .count = count,
                                             .written = copied.bytes,
                                             .more_flags = copied.flags});
    done += copied.bytes;
    if (!copied.outcome) return done > 0 ? Result<std::size_t>(done) : fail(copied.outcome.error());
    if (!ended) return done > 0 ? Result<std::size_t>(done) : fail(ended.error());
  }
  return done;
}

Result<void> File::store(std::uint64_t position, std::span<const std::byte> from) {
  const FreezeGate::Writer writer(core_.gate);
  std::size_t done = 0;
  while (done < from.size()) {
    const std::uint64_t at = position + done;
    const std::shared_lock no_removal(invalidate_lock_);
    auto folio = pages_.lock(at);
    if (at >= size_) return fail(EFAULT);
    RETURN_IF_ERROR(fill(*folio, {.offset = folio->offset, .length = folio->data.size()}));
    const std::uint64_t size = size_;
    const std::uint64_t end = std::min(folio->end(), size);
    for (std::uint64_t begin = folio->offset; begin < end;) {
      constexpr std::uint32_t kFault = abi::kOpWrite | abi::kOpFault;
      ASSIGN_OR_RETURN(const auto answer, mapper_.begin(kFault, begin, end - begin, size));
      if (answer.mapping.type == abi::kInline) return fail(EIO);
      const std::uint64_t count = std::min(end, answer.end()) - begin;
      folio->mark(folio->dirty, {.offset = begin, .length = count});
      RETURN_IF_ERROR(
          mapper_.end(answer, {.operation = kFault, .position = begin, .count = count, .written = count}));
      begin += count;
    }
    const ByteRange part = folio->part({.offset = at, .length = std::min(from.size() - done, end - at)});
    const auto bytes = from.subspan(done, part.length);
    std::ranges::copy(bytes, folio->bytes(part).begin());
    ledger_.wrote(at, bytes, FileLedger::Way::kMappedPage);
    times_changed_ = true;
    attributes_.expire();
    done += part.length;
  }
  return {};
}

Result<void> File::zero_pages(const Mapper::Answer& answer, ByteRange range) {
  for (std::uint64_t done = 0; done < range.length;) {
    const ByteRange left{.offset = range.offset + done, .length = range.length - done};
    auto folio = pages_.lock(left.offset);
    const ByteRange part = folio->part(left);
    RETURN_IF_ERROR(prepare(*folio, answer, part));
    std::ranges::fill(folio->bytes(part), std::byte{0});
    folio->mark(folio->uptodate, part);
    folio->mark(folio->dirty, part);
    ledger_.zeroed(part);
    done += part.length;
  }
  return {};
}

Result<void> File::zero_range(ByteRange range) {
  const std::uint64_t end = range.offset + range.length;
  for (std::uint64_t at = range.offset; at < end;) {
    ASSIGN_OR_RETURN(const auto answer, mapper_.begin(abi::kOpZero, at, end - at, size_));
    const ByteRange part{.offset = at, .length = std::min(end, answer.end()) - at};
    switch (answer.mapping.type) {
      case abi::kHole:
      case abi::kUnwritten:
        // What is dirty is not zeros yet: after write-back the mapping is another.
        if (pages_.any_dirty(part)) {
          RETURN_IF_ERROR(write_back(part));
          continue;
        }
        break;
      case abi::kInline: {
        const std::vector<std::byte> zeros(
            std::min<std::uint64_t>(part.length, std::max(size_.load(), at) - at));
        const Copied copied = zeros.empty() ? Copied{} : copy_inline(at, zeros);
        RETURN_IF_ERROR(copied.outcome);
        break;
      }
      default:
        RETURN_IF_ERROR(zero_pages(answer, part));
    }
    RETURN_IF_ERROR(mapper_.end(
        answer, {.operation = abi::kOpZero, .position = at, .count = part.length, .written = part.length}));
    at += part.length;
  }
  return {};
}

}  // namespace fuse4fs::iomap_model
