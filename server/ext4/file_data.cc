// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/file_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <tuple>

#include "server/ext4/credits.h"

namespace fuse4fs::ext4 {
namespace {

// From here on a transfer goes past the device's page cache.
constexpr std::size_t kDirectFrom = 64 << 10;
// Windows of files that grow, in bytes.
constexpr std::uint64_t kLeastAhead = 64 << 10, kMostAhead = 8 << 20;
constexpr std::uint64_t kFewBlocks = 4;

constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) { return value & ~(unit - 1); }

}  // namespace

Result<void> FileData::must_be_file(const Inode& inode) {
  if (inode.is_directory()) return fail(EISDIR);
  if (!inode.is_regular()) return fail(EINVAL);
  return {};
}

Result<std::size_t> FileData::read(InodeNumber number, std::uint64_t offset, std::span<std::byte> into,
                                   AccessTime access_time) {
  RETURN_IF_ERROR(volume_.check_alive());
  if (offset > INT64_MAX || into.empty()) return 0;
  const std::uint64_t wanted_end = std::min<std::uint64_t>(offset + into.size(), INT64_MAX);
  const auto claim = claims_.claim(number, offset, wanted_end, RangeClaims::Mode::kShared);
  std::vector<Mapping> parts;
  Inode inode;
  std::optional<std::size_t> done;  // as soon as all is read
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(inode, metadata_.inodes.read(held));
    RETURN_IF_ERROR(must_be_file(inode));
    into =
        into.first(static_cast<std::size_t>(std::max(std::min(wanted_end, inode.size()), offset) - offset));
    if (into.empty()) {
      done = 0;
    } else if (inode.has(EXT4_INLINE_DATA_FL)) {
      ASSIGN_OR_RETURN(const auto bytes, metadata_.inline_data.read(inode));
      std::memset(into.data(), 0, into.size());
      if (offset < bytes.size())
        std::memcpy(into.data(), bytes.data() + offset,
                    std::min<std::size_t>(into.size(), bytes.size() - offset));
      done = into.size();
    } else {
      const std::uint64_t first = offset >> volume_.block_bits();
      const std::uint64_t last = (offset + into.size() - 1) >> volume_.block_bits();
      ASSIGN_OR_RETURN(parts, metadata_.extents.map(inode, first, last - first + 1));
    }
  }
  access_times_.touch(metadata_, inode, access_time);
  if (done) return *done;
  RETURN_IF_ERROR(read_parts(parts, offset, into));
  return into.size();
}

Result<void> FileData::read_parts(const std::vector<Mapping>& parts, std::uint64_t offset,
                                  std::span<std::byte> into) {
  std::size_t done = 0;
  for (const Mapping& part : parts) {
    const std::uint64_t at = offset + done;
    const std::uint64_t inside = at - (part.logical << volume_.block_bits());
    const auto length = static_cast<std::size_t>(
        std::min<std::uint64_t>((part.count << volume_.block_bits()) - inside, into.size() - done));
    const auto target = into.subspan(done, length);
    if (part.kind == Mapping::Kind::kWritten)
      RETURN_IF_ERROR(read_bytes((part.physical << volume_.block_bits()) + inside, target));
    else
      std::memset(target.data(), 0, target.size());
    done += length;
  }
  // A map that ends early is a hole to its end.
  std::memset(into.data() + done, 0, into.size() - done);
  return {};
}

// A kernel that writes late sends whole pages: what an append begins in the middle of comes again, as it is.
Result<void> FileData::must_repeat(const Write& write) {
  const auto length =
      static_cast<std::size_t>(std::min<std::uint64_t>(write.from.size(), write.size - write.offset));
  std::vector<std::byte> there(length);
  if (!write.bytes.empty()) {
    if (write.offset < write.bytes.size())
      std::memcpy(there.data(), write.bytes.data() + write.offset,
                  std::min<std::size_t>(length, write.bytes.size() - write.offset));
  } else {
    RETURN_IF_ERROR(read_parts(write.there, write.offset, there));
  }
  if (std::memcmp(there.data(), write.from.data(), length) != 0) return fail(EPERM);
  return {};
}

std::uint64_t FileData::size_limit(const Inode& inode) const {
  // One block less than the map could hold, as the kernel's limit; without large_file 2 GiB.
  std::uint64_t limit = metadata_.extents.block_limit(inode) << volume_.block_bits();
  if (!inode.has(EXT4_EXTENTS_FL) && !ext2fs_has_feature_huge_file(volume_.super_pointer())) {
    // i_blocks counts 512 bytes in 32 bits, the indirect blocks included.
    const std::uint64_t counted = (std::uint64_t{1} << 32) * 512;
    limit = std::min(limit, counted - counted / (volume_.block_size() / 8));
  }
  return limit;
}

Result<SectorCounts> FileData::write(InodeNumber number, std::uint64_t offset,
                                     std::span<const std::byte> from,
                                     AttributeChanges::Privileges privileges) {
  if (from.empty()) return SectorCounts{};
  if (offset > INT64_MAX || from.size() > INT64_MAX - offset) return fail(EFBIG);
  const std::uint64_t end = offset + from.size();
  const std::uint64_t unit = std::uint64_t{volume_.cluster_blocks()} << volume_.block_bits();
  Write write{number, offset, end, from, privileges, offset};
  std::optional<RangeClaims::Claim> claim;
  for (Before before = Before::kClaimMore; before != Before::kReady;) {
    if (before == Before::kClaimMore) {
      // Whole clusters: two writers of one new block must not take it twice.
      write.claimed_from = round_down(write.claimed_from, unit);
      claim.reset();
      claim.emplace(claims_.claim(number, write.claimed_from, round_down(end + unit - 1, unit),
                                  RangeClaims::Mode::kExclusive));
      write.compared = false;
    } else if (before == Before::kCompare) {
      RETURN_IF_ERROR(must_repeat(write));
      write.compared = true;
    } else {
      RETURN_IF_ERROR(leave_inode(number));
    }
    ASSIGN_OR_RETURN(before, plan_write(write));
  }
  auto written = clear(write.tail);
  if (written) {
    written = transfer(write);
    if (!written)
      volume_.device_failed(
          fmt::format("file data could not be written: {}, inode {}, from block {} on",
                      written.error().message(), number, write.pieces.front().where.physical),
          {.inode = number, .block = write.pieces.front().where.physical, .error = written.error().value()});
  }
  if (!written) {
    const auto handle = volume_.journal().start(credits::of_run);
    filler_.abandon(number, write.pieces);
    return fail(written.error());
  }
  return finish_write(write);
}

Result<FileData::Before> FileData::plan_write(Write& write) {
  const auto held = metadata_.inodes.lock_shared(write.number);
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
  RETURN_IF_ERROR(must_be_file(inode));
  write.size = inode.size();
  write.sectors = attributes_of(volume_, inode).sectors;
  if (inode.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  const unsigned bits = volume_.block_bits();
  // What the block of the old end holds behind it turns into zeros. Others that are about to grow the file do
  // the same if they come first; where the end is that of a block, they need not wait for each other.
  if (write.offset > write.size && write.size < write.claimed_from &&
      write.size != round_down(write.size, volume_.block_size())) {
    write.claimed_from = write.size;
    return Before::kClaimMore;
  }
  const std::uint64_t first = write.offset >> bits;
  if (inode.has(EXT2_APPEND_FL) && write.offset < write.size && !write.compared) {
    if (inode.has(EXT4_INLINE_DATA_FL)) {
      ASSIGN_OR_RETURN(write.bytes, metadata_.inline_data.read(inode));
    } else {
      const std::uint64_t last = (std::min(write.end, write.size) - 1) >> bits;
      ASSIGN_OR_RETURN(write.there, metadata_.extents.map(inode, first, last - first + 1));
    }
    return Before::kCompare;
  }
  if (write.end > size_limit(inode)) return fail(EFBIG);
  if (inode.has(EXT4_INLINE_DATA_FL)) return Before::kLeaveInode;
  if (write.end > write.size) {
    ASSIGN_OR_RETURN(write.tail, tail_between(inode, write.size, write.offset));
  }
  const std::uint64_t last = (write.end - 1) >> bits;
  ASSIGN_OR_RETURN(write.pieces, plan(inode, first, last - first + 1, wanted_ahead(write)));
  if (inode.found_in_use) held.set_blocks_checked(true);
  return Before::kReady;
}

Result<SectorCounts> FileData::finish_write(Write& write) {
  const bool no_news = write.end <= write.size && content_times_ == MountOptions::ContentTimes::kCallers &&
                       write.privileges == AttributeChanges::Privileges::kKeep &&
                       std::ranges::none_of(write.pieces, &Piece::is_news);
  if (no_news) return SectorCounts{write.sectors, write.sectors};
  const auto held = metadata_.inodes.lock(write.number);
  const auto handle = volume_.journal().start(credits::of_map);
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  if (const auto done = commit(inode, write); !done) {
    // What lies behind the file's end would be found by e2fsck. Not more than our own: others may be writing
    // there.
    const std::uint64_t blocks = volume_.blocks_for(inode.size());
    for (const Piece& piece : write.pieces) {
      const std::uint64_t first = std::max(piece.where.logical, blocks);
      if (piece.where.end() > first) (void)metadata_.extents.remove(inode, first, piece.where.end() - first);
    }
    (void)metadata_.inodes.write(inode);
    return fail(done.error());
  }
  RETURN_IF_ERROR(note_change(inode, write.privileges));
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  return SectorCounts{write.sectors, attributes_of(volume_, inode).sectors};
}

Result<void> FileData::note_change(Inode& inode, AttributeChanges::Privileges privileges) {
  if (privileges == AttributeChanges::Privileges::kClear) {
    inode.clear_privileges();
    RETURN_IF_ERROR(metadata_.xattrs.remove(inode, kCapabilityXattr));
  }
  if (content_times_ == MountOptions::ContentTimes::kOurs) inode.touch();
  return {};
}

Result<void> FileData::leave_inode(InodeNumber number) {
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
  const auto handle = volume_.journal().start(credits::of_map);
  return leave_inode(inode);
}

Result<void> FileData::leave_inode(Inode& inode) {
  if (!inode.has(EXT4_INLINE_DATA_FL)) return {};
  ASSIGN_OR_RETURN(auto bytes, metadata_.inline_data.read(inode));
  // A file that is mostly hole may lie inside of its inode, too: ext4 leaves it there when it is made longer.
  const std::uint64_t size = inode.size();
  bytes.resize(std::min<std::size_t>(bytes.size(), size));
  bytes.resize(volume_.block_size());
  if (size == 0) return metadata_.inline_data.drop(inode);
  return metadata_.inline_data.move_out(inode, size, bytes);
}

// As much as the file has, as the kernel's ext4. What grows for the first time is as a rule complete, and
// small files are to lie close together.
std::uint64_t FileData::wanted_ahead(const Write& write) const {
  if (write.end <= write.size || write.size == 0 || write.end <= kFewBlocks << volume_.block_bits()) return 0;
  return std::clamp(std::bit_ceil(std::min(write.end, kMostAhead)), kLeastAhead, kMostAhead) >>
         volume_.block_bits();
}

Result<std::vector<FileData::Piece>> FileData::plan(Inode& inode, std::uint64_t first, std::uint64_t count,
                                                    std::uint64_t ahead) {
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, first, count));
  std::vector<Piece> pieces;
  std::optional<journal::Handle> handle;
  for (const Mapping& part : parts) {
    if (part.kind != Mapping::Kind::kHole) {
      pieces.push_back({part, 0, {}, true});
      continue;
    }
    if (!handle) handle.emplace(volume_.journal().start(credits::of_run));
    if (const auto filled = filler_.fill(inode, part, ahead, pieces); !filled) {
      filler_.abandon(inode.number, pieces);
      return fail(filled.error());
    }
  }
  return pieces;
}

Result<void> FileData::transfer(const Write& write) {
  const std::uint64_t offset = write.offset;
  const std::uint64_t end = write.end;
  for (const Piece& piece : write.pieces) {
    const std::uint64_t begins = piece.where.logical << volume_.block_bits();
    const std::uint64_t ends = begins + (piece.where.count << volume_.block_bits());
    const std::uint64_t from_byte = std::max(begins, offset);
    const std::uint64_t to_byte = std::min(ends, end);
    const std::uint64_t device = piece.where.physical << volume_.block_bits();
    // Blocks that show their content from now on: the rest of them must be zeros.
    const bool exposes = piece.is_news();
    if (exposes && from_byte > begins) RETURN_IF_ERROR(write_zeros(device, from_byte - begins));
    RETURN_IF_ERROR(write_bytes(device + (from_byte - begins),
                                write.from.subspan(from_byte - offset, to_byte - from_byte)));
    if (exposes && to_byte < ends) RETURN_IF_ERROR(write_zeros(device + (to_byte - begins), ends - to_byte));
  }
  return {};
}

Result<void> FileData::commit(Inode& inode, Write& write) {
  const std::uint64_t old_size = inode.size();
  for (Piece& piece : write.pieces) {
    const Mapping& where = piece.where;
    if (!piece.is_news()) continue;
    auto done = filler_.go_on(inode);
    if (done && piece.mapped) {
      done = metadata_.extents.convert(inode, where.logical, where.count, Mapping::Kind::kWritten);
    } else if (done) {
      done = filler_.map(inode, piece, Mapping::Kind::kWritten);
    }
    if (!done) {
      filler_.abandon(inode.number, write.pieces);
      inode.set_size(old_size);
      return done;
    }
    // Should another handle be needed, the file ends where its blocks do.
    inode.set_size(std::max(inode.size(), std::min(write.end, where.end() << volume_.block_bits())));
  }
  inode.set_size(std::max(inode.size(), write.end));
  return {};
}

// The part of the last block that the file does not reach may hold anything, and is about to be shown.
Result<FileData::Tail> FileData::tail_between(const Inode& inode, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t inside = from & (volume_.block_size() - 1);
  if (data_is_callers_ || inside == 0 || !inode.has_blocks_map()) return Tail{};
  const std::uint64_t end = std::min(to, from - inside + volume_.block_size());
  if (end <= from) return Tail{};
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, from >> volume_.block_bits(), 1));
  if (parts.empty() || parts[0].kind != Mapping::Kind::kWritten) return Tail{};
  return Tail{inode.number, (parts[0].physical << volume_.block_bits()) + inside, end - from};
}

Result<void> FileData::clear(const Tail& tail) {
  auto written = write_zeros(tail.offset, tail.length);
  if (!written) {
    const std::uint64_t block = tail.offset >> volume_.block_bits();
    volume_.device_failed(fmt::format("the end of a file could not be written: {}, inode {}, block {}",
                                      written.error().message(), tail.inode, block),
                          {.inode = tail.inode, .block = block, .error = written.error().value()});
  }
  return written;
}

Result<RangeClaims::Claim> FileData::claim_for_size(InodeNumber number, std::uint64_t size) {
  const std::uint64_t unit = std::uint64_t{volume_.cluster_blocks()} << volume_.block_bits();
  for (std::uint64_t from = size;;) {
    auto claim =
        claims_.claim(number, round_down(from, unit), RangeClaims::kToTheEnd, RangeClaims::Mode::kExclusive);
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    if (inode.size() >= from) return claim;
    from = inode.size();
  }
}

Result<FileData::Tail> FileData::tail_for_size(const Inode& inode, std::uint64_t size) {
  RETURN_IF_ERROR(must_be_file(inode));
  // Inside of the inode it is zeros already.
  if (inode.has(EXT4_INLINE_DATA_FL)) return Tail{};
  if (size > size_limit(inode)) return fail(EFBIG);
  return tail_between(inode, std::min(size, inode.size()), std::max(size, inode.size()));
}

Result<void> FileData::resize(Inode& inode, std::uint64_t size) {
  RETURN_IF_ERROR(must_be_file(inode));
  const std::uint64_t old = inode.size();
  if (inode.has(EXT4_INLINE_DATA_FL)) {
    ASSIGN_OR_RETURN(auto bytes, metadata_.inline_data.read(inode));
    if (size == 0) {
      RETURN_IF_ERROR(metadata_.inline_data.drop(inode));
    } else if (size < old && old <= bytes.size()) {
      std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size), bytes.end(), std::byte{0});
      RETURN_IF_ERROR(metadata_.inline_data.rewrite(inode, bytes));
    } else if (size > old) {
      bytes.resize(std::min<std::size_t>(old, bytes.size()));
      bytes.resize(volume_.block_size());
      RETURN_IF_ERROR(metadata_.inline_data.move_out(inode, old, bytes));
    }
  }
  if (size > size_limit(inode)) return fail(EFBIG);
  // The smaller size first: e2fsck forgives blocks behind the end less than a crash does blocks before it.
  inode.set_size(size);
  if (size > old) return {};
  volume_.reservations().forget(inode.number);
  // The old size again gives back what was allocated behind it.
  return metadata_.extents.truncate(inode, volume_.blocks_for(size), ExtentMap::Handles::kSeveral);
}

// Head and tail through the page cache, the aligned middle past it.
Result<void> FileData::write_bytes(std::uint64_t device_offset, std::span<const std::byte> from) {
  const auto& device = volume_.device();
  const std::size_t unit = device.direct_alignment();
  if (from.size() >= kDirectFrom) {
    const std::size_t head = static_cast<std::size_t>(-device_offset & (unit - 1));
    const std::size_t middle = (from.size() - head) & ~(unit - 1);
    if (head != 0) RETURN_IF_ERROR(device.write(device_offset, from.first(head)));
    RETURN_IF_ERROR(device.write_direct(device_offset + head, from.subspan(head, middle)));
    from = from.subspan(head + middle);
    device_offset += head + middle;
  }
  if (from.empty()) return {};
  return device.write(device_offset, from);
}

Result<void> FileData::read_bytes(std::uint64_t device_offset, std::span<std::byte> into) {
  const auto& device = volume_.device();
  const std::size_t unit = device.direct_alignment();
  Result<void> done;
  if (into.size() >= kDirectFrom) {
    const std::size_t head = static_cast<std::size_t>(-device_offset & (unit - 1));
    const std::size_t middle = (into.size() - head) & ~(unit - 1);
    if (head != 0) done = device.read(device_offset, into.first(head));
    if (done) done = device.read_direct(device_offset + head, into.subspan(head, middle));
    into = into.subspan(head + middle);
    device_offset += head + middle;
  }
  if (done && !into.empty()) done = device.read(device_offset, into);
  if (!done)
    volume_.device_failed(fmt::format("file data could not be read: {}, byte {} of the device",
                                      done.error().message(), device_offset),
                          {.block = device_offset >> volume_.block_bits(), .error = done.error().value()});
  return done;
}

}  // namespace fuse4fs::ext4
