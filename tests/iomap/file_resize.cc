// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>

#include <algorithm>
#include <mutex>

#include "tests/iomap/file.h"

namespace fuse4fs::iomap_model {

void File::remove_pages(ByteRange range) {
  for (const auto& folio : pages_.within(range)) {
    const std::lock_guard lock(folio->lock);
    folio->wait_for_writeback();
    if (!folio->removed) pages_.remove(*folio);
  }
}

void File::truncate_pages(std::uint64_t size) {
  const std::uint64_t folio_size = pages_.folio_size();
  const std::uint64_t whole = (size + folio_size - 1) / folio_size * folio_size;
  remove_pages({.offset = whole, .length = ~std::uint64_t{0} - whole});
  if (size % folio_size == 0) return;
  auto folio = pages_.lock_existing(size);
  if (!folio) return;
  folio->wait_for_writeback();
  std::ranges::fill(folio->bytes({.offset = size, .length = folio->end() - size}), std::byte{0});
  for (std::uint64_t block = round_up(size); block < folio->end(); block += block_)
    folio->dirty[(block - folio->offset) / block_] = false;
}

Result<void> File::set_size_on_server(std::uint64_t size) {
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE | FATTR_MTIME | FATTR_CTIME;
  in.size = size;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  in.mtime = in.ctime = static_cast<std::uint64_t>(now.tv_sec);
  in.mtimensec = in.ctimensec = static_cast<std::uint32_t>(now.tv_nsec);
  ASSIGN_OR_RETURN(const auto out, core_.connection.ask<fuse_attr_out>(FUSE_SETATTR, id_.node, in));
  attributes_.keep(out);
  if (out.attr.size != size)
    core_.breaches.add(Rule::kSizeOtherThanSet,
                       fmt::format("node {}: {} set, {} answered", id_.node, size, out.attr.size));
  mapper_.set_disk_size(out.attr.size);
  return {};
}

Result<void> File::truncate(std::uint64_t size) {
  if (size > core_.limits.largest_file) return fail(EFBIG);
  const FreezeGate::Writer writer(core_.gate);
  const std::unique_lock lock(inode_lock_);
  const FileLedger::Changing changing(ledger_);
  const std::uint64_t old = size_;
  const std::unique_lock no_faults(invalidate_lock_);
  if (size > old) {
    RETURN_IF_ERROR(zero_range({.offset = old, .length = size - old}));
  } else if (size < old) {
    const std::uint64_t end = std::min(round_up(size), old);
    RETURN_IF_ERROR(zero_range({.offset = size, .length = end - size}));
  }
  size_ = size;
  ledger_.resized(size);
  truncate_pages(size);
  // What comes there when it grows again is then what was there, or zeros.
  const auto fails = [&](const Result<void>& outcome) {
    if (size < old) ledger_.device_refused({.offset = size, .length = old - size});
    return outcome;
  };
  if (const auto written = write_back(); !written) return fails(written);
  const std::uint64_t behind = round_up(size);
  const ByteRange freed{.offset = behind, .length = abi::kToEndOfFile};
  FileLedger::Removing removing(ledger_, freed);
  core_.owners.releasing(id_.node, freed);
  if (const auto set = set_size_on_server(size); !set) {
    // A volume that has become read-only does nothing.
    if (set.error() == Errno(EROFS)) {
      removing.was_refused();
      core_.owners.kept(id_.node, freed);
    }
    return fails(set);
  }
  mapper_.cache().invalidate(freed);
  core_.owners.released(id_.node, freed);
  synced_size_ = std::min<std::uint64_t>(synced_size_, size);
  return {};
}

Result<void> File::open_truncating() {
  const FreezeGate::Writer writer(core_.gate);
  const std::unique_lock lock(inode_lock_);
  const FileLedger::Changing changing(ledger_);
  const std::unique_lock no_faults(invalidate_lock_);
  const ByteRange all{.offset = 0, .length = abi::kToEndOfFile};
  const FileLedger::Removing removing(ledger_, all);
  core_.owners.releasing(id_.node, all);
  fuse_open_in in{};
  in.flags = O_RDWR | O_TRUNC;
  const auto opened = core_.connection.ask<fuse_open_out>(FUSE_OPEN, id_.node, in);
  // What has no OPEN is as good as opened.
  if (!opened && opened.error() != Errno(ENOSYS)) return fail(opened.error());
  size_ = 0;
  attributes_.expire();
  ledger_.resized(0);
  truncate_pages(0);
  mapper_.set_disk_size(0);
  mapper_.cache().invalidate(all);
  core_.owners.released(id_.node, all);
  synced_size_ = 0;
  return {};
}

Result<void> File::fallocate_on_server(int mode, ByteRange range, ByteRange removed) {
  FileLedger::Removing removing(ledger_, removed);
  fuse_fallocate_in in{};
  in.offset = range.offset;
  in.length = range.length;
  in.mode = static_cast<std::uint32_t>(mode);
  if (const auto told = core_.connection.tell(FUSE_FALLOCATE, id_.node, in); !told) {
    // Without extents a server cannot, nor where it may not write: it has done nothing then.
    if (told.error() == Errno(EOPNOTSUPP) || told.error() == Errno(EROFS)) {
      removing.was_refused();
      core_.owners.kept(id_.node, removed);
    }
    return told;
  }
  const std::uint64_t begin = round_down(range.offset);
  mapper_.cache().invalidate({.offset = begin, .length = round_up(range.offset + range.length) - begin});
  return {};
}

Result<void> File::fallocate(int mode, ByteRange range) {
  const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const bool punches = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  const bool zeroes = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0 ||
      (punches && (!keeps_size || zeroes)))
    return fail(EOPNOTSUPP);
  const std::uint64_t limit = core_.limits.largest_file;
  if (range.offset > limit || range.length > limit - range.offset) return fail(EFBIG);
  const FreezeGate::Writer writer(core_.gate);
  const std::unique_lock lock(inode_lock_);
  const FileLedger::Changing changing(ledger_);
  const std::unique_lock no_faults(invalidate_lock_);
  const std::uint64_t end = range.offset + range.length;
  const std::uint64_t old = size_;
  times_changed_ = true;
  attributes_.expire();
  const std::uint64_t first = round_up(range.offset), last = round_down(end);
  const ByteRange whole{.offset = first, .length = last > first ? last - first : 0};
  if (punches || zeroes) {
    const std::uint64_t folio = pages_.folio_size();
    const std::uint64_t begin = range.offset / folio * folio;
    const ByteRange rounded{.offset = begin, .length = (end + folio - 1) / folio * folio - begin};
    RETURN_IF_ERROR(write_back(rounded));
    remove_pages(rounded);
    if (whole.length > 0) core_.owners.releasing(id_.node, whole);
  }
  RETURN_IF_ERROR(fallocate_on_server(mode, range, punches || zeroes ? whole : ByteRange{}));
  if (punches || zeroes) {
    // Of a range made unwritten the blocks may be the same: then their next mapping claims them again.
    if (whole.length > 0) core_.owners.released(id_.node, whole);
    const std::uint64_t stop = std::min(end, old);
    if (range.offset < stop) {
      ledger_.zeroed({.offset = range.offset, .length = stop - range.offset});
      const std::uint64_t head = std::min(stop, round_up(range.offset));
      RETURN_IF_ERROR(zero_range({.offset = range.offset, .length = head - range.offset}));
      const std::uint64_t tail = std::max(head, round_down(stop));
      RETURN_IF_ERROR(zero_range({.offset = tail, .length = stop - tail}));
      if (end >= old) RETURN_IF_ERROR(write_back({.offset = round_down(old), .length = block_}));
    }
  }
  if (keeps_size || end <= old) return {};
  RETURN_IF_ERROR(zero_range({.offset = old, .length = end - old}));
  size_ = end;
  ledger_.resized(end);
  RETURN_IF_ERROR(write_back());
  mapper_.set_disk_size(end);
  // The server has set it by itself: nobody will tell it.
  synced_size_ = end;
  return {};
}

}  // namespace fuse4fs::iomap_model
