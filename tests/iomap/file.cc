// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/file.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

namespace fuse4fs::iomap_model {

File::File(Core& core, const fuse_entry_out& entry, std::shared_ptr<FileLedger> ledger)
    : core_(core),
      id_{.node = entry.nodeid, .inode = entry.attr.ino},
      block_(core.limits.block_size),
      flags_(entry.attr.flags),
      kept_ledger_(std::move(ledger)),
      ledger_(*kept_ledger_),
      mapper_(core, id_, ledger_),
      pages_(core.folio_size, core.limits.block_size),
      size_(entry.attr.size) {
  mapper_.set_disk_size(entry.attr.size);
  attributes_.keep(entry);
  if (ledger_.size() == 0) ledger_.resized(entry.attr.size);
}

Result<void> File::adopt() {
  ledger_.adopted();
  const FileLedger::Changing unknown(ledger_);
  std::vector<std::byte> bytes(1 << 20);
  // Holes may be as long as a file can be.
  for (std::uint64_t at = 0; at < size_;) {
    const auto data = seek(at, ext4::SeekTarget::kData);
    if (!data) return data.error() == Errno(ENXIO) ? Result<void>() : fail(data.error());
    ASSIGN_OR_RETURN(const std::uint64_t hole, seek(*data, ext4::SeekTarget::kHole));
    for (at = *data; at < hole; at += bytes.size()) {
      const auto part = std::span(bytes).first(std::min<std::uint64_t>(bytes.size(), hole - at));
      ASSIGN_OR_RETURN(const std::size_t got, read(at, part));
      ledger_.wrote(at, part.first(got));
    }
    at = hole;
  }
  return {};
}

Result<std::uint64_t> File::limit_write(std::uint64_t position, std::uint64_t length) const {
  const std::uint64_t limit = core_.limits.largest_file;
  if (length == 0) return 0;
  if (position >= limit) return fail(EFBIG);
  return std::min(length, limit - position);
}

Result<void> File::read_device(const abi::Mapping& mapping, std::uint64_t position,
                               std::span<std::byte> into) {
  Device& device = *core_.devices.find(mapping.device);
  const std::uint64_t address = mapping.address + (position - mapping.offset);
  const BlockOwners::InFlight flight(core_.owners, {.offset = address, .length = into.size()});
  return device.read(address, into);
}

Result<void> File::write_device(const abi::Mapping& mapping, std::uint64_t position,
                                std::span<const std::byte> from) {
  Device& device = *core_.devices.find(mapping.device);
  const std::uint64_t address = mapping.address + (position - mapping.offset);
  const ByteRange range{.offset = position, .length = from.size()};
  // Somebody else may be told of the block while its data arrives.
  if (mapping.type == abi::kMapped) ledger_.device_writing(range);
  Result<std::uint64_t> written;
  {
    const BlockOwners::InFlight flight(core_.owners, {.offset = address, .length = from.size()});
    written = device.write(address, from);
  }
  if (!written) {
    ledger_.device_refused(range);
    return fail(written.error());
  }
  ledger_.device_written(range);
  for (std::uint64_t known = last_write_; known < *written;)
    if (last_write_.compare_exchange_weak(known, *written)) break;
  last_device_ = mapping.device;
  return {};
}

Result<void> File::read_inline(const Mapper::Answer& answer, std::uint64_t position,
                               std::span<std::byte> into) {
  std::ranges::fill(into, std::byte{0});
  if (into.empty()) return {};
  fuse_read_in in{};
  in.offset = answer.asked.offset;
  in.size = static_cast<std::uint32_t>(answer.asked.length);
  ASSIGN_OR_RETURN(const auto bytes,
                   core_.connection.call(FUSE_READ, id_.node, std::as_bytes(std::span(&in, 1))));
  const std::uint64_t room = answer.source.offset + answer.source.length - in.offset;
  if (bytes.size() > room) {
    core_.breaches.add(Rule::kInlineReadTooLong,
                       fmt::format("node {}: {} bytes from {} on", id_.node, bytes.size(), in.offset));
    return fail(kCorrupted);
  }
  if (bytes.empty()) return fail(EIO);
  const std::uint64_t skipped = position - in.offset;
  if (skipped < bytes.size())
    std::ranges::copy(std::span(bytes).subspan(skipped).first(std::min(into.size(), bytes.size() - skipped)),
                      into.begin());
  return {};
}

Result<void> File::write_inline(std::uint64_t position, std::span<const std::byte> from) {
  fuse_write_in in{};
  in.offset = position;
  in.size = static_cast<std::uint32_t>(from.size());
  const std::string_view tail(reinterpret_cast<const char*>(from.data()), from.size());
  ASSIGN_OR_RETURN(const auto out, core_.connection.ask<fuse_write_out>(FUSE_WRITE, id_.node, in, tail));
  if (out.size != from.size()) return fail(EIO);
  return {};
}

Result<std::uint64_t> File::seek(std::uint64_t position, ext4::SeekTarget target) {
  const std::shared_lock lock(inode_lock_);
  const std::uint64_t size = size_;
  if (position >= size) return fail(ENXIO);
  const auto ticket = ledger_.ticket();
  for (std::uint64_t at = position; at < size;) {
    ASSIGN_OR_RETURN(const auto answer, mapper_.begin(abi::kOpReport, at, size - at, size));
    const std::uint64_t end = std::min(answer.end(), size);
    if (answer.source.type == abi::kHole) judge_hole(ticket, {.offset = at, .length = end - at});
    // Of what is not written, the pages know better.
    for (; answer.source.type == abi::kUnwritten && at < end; at = round_down(at) + block_) {
      const auto folio = pages_.lock_existing(at);
      const bool is_data = folio && folio->is_uptodate({.offset = round_down(at), .length = block_});
      if (is_data == (target == ext4::SeekTarget::kData)) return at;
    }
    const auto found = answer.source.type == abi::kHole ? ext4::SeekTarget::kHole : ext4::SeekTarget::kData;
    if (at < end && found == target) return at;
    at = end;
  }
  if (target == ext4::SeekTarget::kHole) return size;
  return fail(ENXIO);
}

void File::judge_hole(const FileLedger::Ticket& ticket, ByteRange range) {
  if (auto breach = ledger_.judge_hole(ticket, range)) core_.breaches.add(std::move(*breach));
}

Result<std::vector<abi::Mapping>> File::extents() {
  RETURN_IF_ERROR(write_back());
  const std::shared_lock lock(inode_lock_);
  const auto ticket = ledger_.ticket();
  const std::uint64_t file_end = round_up(size_);
  // The kernel asks on to there, wherever the file ends.
  const std::uint64_t last = core_.limits.largest_file;
  constexpr int kMostBehindEnd = 1000;
  int behind_end = 0;
  std::vector<abi::Mapping> found;
  for (std::uint64_t at = 0; at < last;) {
    ASSIGN_OR_RETURN(const auto answer, mapper_.begin(abi::kOpReport, at, last - at, size_));
    const std::uint64_t end = answer.source.offset + answer.source.length;
    if (answer.source.offset < at && answer.source.type != abi::kHole)
      core_.breaches.add(Rule::kReportedTwice, fmt::format("node {}: in front of {}", id_.node, at));
    if (at >= file_end) {
      if (++behind_end > kMostBehindEnd) {
        core_.breaches.add(Rule::kReportWithoutEnd, fmt::format("node {}: at {}", id_.node, at));
        return fail(EIO);
      }
    } else if (answer.source.type != abi::kHole) {
      found.push_back(answer.source);
    } else {
      judge_hole(ticket, {.offset = at, .length = std::min(end, file_end) - at});
    }
    at = end;
  }
  return found;
}

Result<std::vector<abi::Mapping>> File::swap_on() {
  RETURN_IF_ERROR(sync());
  const std::unique_lock lock(inode_lock_);
  std::vector<abi::Mapping> found;
  for (std::uint64_t at = 0; at < size_;) {
    ASSIGN_OR_RETURN(const auto answer,
                     mapper_.begin(abi::kOpSwapFile | abi::kOpReport, at, size_ - at, size_));
    const abi::Mapping& mapping = answer.source;
    const bool good = (mapping.type == abi::kMapped || mapping.type == abi::kUnwritten) &&
                      (mapping.flags & (abi::kDirty | abi::kShared)) == 0;
    if (!good) {
      (void)mapper_.ioend({.flags = abi::kIoendSwapOff, .error = 0, .range = {}});
      return fail(EINVAL);
    }
    found.push_back(mapping);
    at = mapping.offset + mapping.length;
  }
  return found;
}

Result<void> File::swap_off() {
  return mapper_.ioend({.flags = abi::kIoendSwapOff, .error = 0, .range = {}});
}

Result<fuse_attr> File::attributes() {
  auto kept = attributes_.get();
  if (!kept) return stat();
  kept->size = size_;
  return *kept;
}

Result<fuse_attr> File::stat() {
  ASSIGN_OR_RETURN(const auto out,
                   core_.connection.ask<fuse_attr_out>(FUSE_GETATTR, id_.node, fuse_getattr_in{}));
  attributes_.keep(out);
  // The size is the kernel's to know; the server's is that on the disk.
  mapper_.set_disk_size(core_.quirks.has(Quirk::kStatMovesDiskSize) ? size_.load() : out.attr.size);
  fuse_attr attributes = out.attr;
  attributes.size = size_;
  return attributes;
}

void File::reclaim() { (void)invalidate_pages(kAll); }

void File::drop_caches() {
  reclaim();
  mapper_.cache().drop();
}

void File::drop_pages() {
  const std::unique_lock lock(inode_lock_);
  const std::unique_lock no_faults(invalidate_lock_);
  remove_pages(kAll);
  mapper_.cache().drop();
}

Result<void> File::judge_durability() {
  drop_caches();
  ASSIGN_OR_RETURN(const auto out,
                   core_.connection.ask<fuse_attr_out>(FUSE_GETATTR, id_.node, fuse_getattr_in{}));
  if (out.attr.size < synced_size_)
    core_.breaches.add(Rule::kSizeLost, fmt::format("node {}: {} synced, {} on the disk", id_.node,
                                                    synced_size_.load(), out.attr.size));
  std::vector<std::byte> bytes(1 << 20);
  for (std::uint64_t at = 0; at < size_; at += bytes.size()) RETURN_IF_ERROR(read(at, bytes));
  drop_caches();
  return {};
}

Result<void> File::judge_cache() {
  for (const abi::Mapping& mapping : mapper_.cache().mappings(MappingCache::Fork::kRead)) {
    for (std::uint64_t at = mapping.offset; at < mapping.offset + mapping.length;) {
      const std::uint64_t left = mapping.offset + mapping.length - at;
      ASSIGN_OR_RETURN(const auto answer,
                       mapper_.begin(abi::kOpReport, at, left, size_, Mapper::From::kServer));
      const abi::Mapping& now = answer.source;
      const bool has_address = mapping.address != abi::kNullAddress;
      // Both read as zeros, and no write goes by a cached hole.
      const bool was_allocated = mapping.type == abi::kHole && now.type == abi::kUnwritten;
      const bool same =
          now.type == mapping.type && now.device == mapping.device &&
          (!has_address || now.address + (at - now.offset) == mapping.address + (at - mapping.offset));
      if (!same && !was_allocated) {
        core_.breaches.add(Rule::kCachedMappingStale, fmt::format("node {}: cached {}, now {}", id_.node,
                                                                  describe(mapping), describe(now)));
        return fail(kCorrupted);
      }
      at = now.offset + now.length;
    }
  }
  return {};
}

}  // namespace fuse4fs::iomap_model
