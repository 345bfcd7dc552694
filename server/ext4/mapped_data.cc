// SPDX-License-Identifier: GPL-2.0-or-later
// MappedData: where data lies, or is to lie. What becomes of it is mapped_completion.cc.
#include "server/ext4/mapped_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "server/ext4/credits.h"

namespace fuse4fs::ext4 {
namespace {

using Kind = DataMapping::Kind;

// Of a request, what is allocated at once: an extent's worth.
constexpr std::uint64_t kMostBlocks = 1 << 15;
// The same where it has to be made zeros first.
constexpr std::uint64_t kMostZeros = 128 << 10;  // bytes

}  // namespace

MappingLimits MappedData::limits() const {
  MappingLimits limits;
  const auto& super = volume_.super();
  std::memcpy(limits.uuid.data(), super.s_uuid, limits.uuid.size());
  limits.largest_file = data_.volume_size_limit();
  if (!ext2fs_has_feature_extents(volume_.super_pointer()))
    limits.largest_file = std::min(limits.largest_file, data_.size_limit(Inode{}));
  limits.most_links = kMostLinks;
  const auto times = time_limits(EXT2_INODE_SIZE(&super) > EXT2_GOOD_OLD_INODE_SIZE);
  limits.earliest_time = times.first;
  limits.latest_time = times.last;
  return limits;
}

// The caller asks for what it has looked up: all else is a number that it does not know any more, if it ever
// did.
Result<void> MappedData::must_be_known(const InodeTable::Held& held) {
  return held.has_lookups() ? Result<void>() : fail(ESTALE);
}

DataMapping MappedData::to_bytes(const Mapping& mapping, InodeNumber number) const {
  const unsigned bits = volume_.block_bits();
  DataMapping bytes{.offset = mapping.logical << bits, .length = mapping.count << bits};
  if (mapping.kind == Mapping::Kind::kHole) return bytes;
  bytes.kind = mapping.kind == Mapping::Kind::kWritten ? Kind::kWritten : Kind::kUnwritten;
  bytes.device_offset = mapping.physical << bits;
  if (!volume_.journal().last_changes().are_written(number, journal::Changed::kMore))
    bytes.metadata = DataMapping::Metadata::kPending;
  return bytes;
}

// To where the file may grow: who goes farther is to ask, and to be told. Who only wants to know goes as far
// as numbers do (FIEMAP), and would ask for each block.
DataMapping MappedData::hole_at(const Inode& inode, std::uint64_t offset, MappingPurpose purpose) const {
  constexpr std::uint64_t kBehindAll = std::uint64_t{1} << 63;
  const std::uint64_t block = volume_.block_size();
  const std::uint64_t begin = offset & ~(block - 1);
  const std::uint64_t end =
      purpose == MappingPurpose::kReport ? kBehindAll : data_.size_limit(inode) & ~(block - 1);
  return {.offset = begin, .length = end > begin ? end - begin : block};
}

Result<DataMapping> MappedData::look(const Inode& inode, const MappingRequest& request) {
  RETURN_IF_ERROR(FileData::must_be_file(inode));
  const std::uint64_t offset = request.range.offset;
  const std::uint64_t block = offset >> volume_.block_bits();
  if (inode.has(EXT4_INLINE_DATA_FL)) {
    if (block != 0) return hole_at(inode, offset, request.purpose);
    return DataMapping{.kind = Kind::kInline, .offset = 0, .length = volume_.block_size()};
  }
  if (block >= metadata_.extents.block_limit(inode)) return hole_at(inode, offset, request.purpose);
  // As a whole: the kernel forgets what was written over, anywhere in it, and learns that again as well.
  ASSIGN_OR_RETURN(Mapping found, metadata_.extents.find_whole(inode, block));
  if (!inode.has(EXT4_EXTENTS_FL)) {
    // An indirect map knows single blocks: those of this request that follow each other.
    const std::uint64_t last =
        (offset + std::max<std::uint64_t>(request.range.length, 1) - 1) >> volume_.block_bits();
    const std::uint64_t count = std::min(last - block + 1, kMostBlocks);
    ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, block, count));
    if (!parts.empty() && parts.front().count > found.count) found = parts.front();
  }
  DataMapping mapping = to_bytes(found, inode.number);
  if (mapping.kind == Kind::kHole)
    mapping.length = std::min(mapping.length, hole_at(inode, mapping.offset, request.purpose).length);
  return mapping;
}

// Written blocks up to the one that holds the file's end: a direct write that moves the end within them is to
// be asked for, so that it is reported (must_be_reported()).
std::uint64_t MappedData::end_to_remember(const Inode& inode, const DataMapping& mapping) {
  const std::uint64_t end = mapping.offset + mapping.length;
  if (mapping.kind != Kind::kWritten) return end;
  return std::min(end, files_.end_of(inode) & ~(std::uint64_t{volume_.block_size()} - 1));
}

// A mapping that is remembered is the map's, since the inode's lock is held.
void MappedData::hand_over(const Inode& inode, const MappingRequest& request, DataMapping& mapping) {
  const unsigned bits = volume_.block_bits();
  // What is being taken back stays behind.
  if (mapping.has_blocks() && request.purpose != MappingPurpose::kReport) {
    const std::uint64_t end = given_.end_to_hand_over(inode.number), first = mapping.offset >> bits;
    if (request.range.offset >> bits < end && end < first + (mapping.length >> bits))
      mapping.length = (end - first) << bits;
    given_.note_handed_over(inode.number, first, (mapping.offset + mapping.length) >> bits);
  }
  answer(inode, request, mapping);
}

void MappedData::answer(const Inode& inode, const MappingRequest& request, DataMapping& mapping) {
  mapping.pieces = request.pieces;
  // What the kernel has in its cache it takes from there, and both would be in the list that it makes.
  if (request.purpose == MappingPurpose::kReport) begin_at(mapping, request.range.offset);
  if (must_be_reported(inode, request, mapping)) {
    mapping.report = DataMapping::Report::kAlways;
    return;
  }
  if (remember(inode, request, mapping) || request.purpose != MappingPurpose::kWriteBack) return;
  // The kernel goes on with an answer from page to page without looking at it again, and what lies behind the
  // pages that it holds may be another's by then.
  const std::uint64_t block = volume_.block_size();
  const std::uint64_t end =
      (request.range.offset + std::max<std::uint64_t>(request.range.length, 1) + block - 1) & ~(block - 1);
  begin_at(mapping, request.range.offset);
  mapping.length = std::min(mapping.length, end - mapping.offset);
}

// With the block that holds it.
void MappedData::begin_at(DataMapping& mapping, std::uint64_t offset) const {
  const std::uint64_t begin = offset & ~(std::uint64_t{volume_.block_size()} - 1);
  const std::uint64_t front = begin > mapping.offset ? begin - mapping.offset : 0;
  mapping.offset += front;
  if (mapping.has_blocks()) mapping.device_offset += front;
  mapping.length -= front;
}

bool MappedData::remember(const Inode& inode, const MappingRequest& request, DataMapping& mapping) {
  const bool is_for_use =
      request.purpose != MappingPurpose::kReport && request.purpose != MappingPurpose::kSwap;
  const bool is_worth_it =
      mapping.has_blocks() || (mapping.kind == Kind::kHole && request.purpose == MappingPurpose::kRead);
  if (!is_for_use || !is_worth_it || request.pieces != MappingRequest::Pieces::kAny) return false;
  const std::uint64_t end = end_to_remember(inode, mapping);
  DataMapping kept = mapping;
  kept.length = end > kept.offset ? end - kept.offset : 0;
  if (request.range.offset >= end || !cache_.load()->remember(inode.number, kept)) return false;
  mapping = kept;
  mapping.place = DataMapping::Place::kRemembered;
  return true;
}

// A block always lies in one piece. With clusters more would as well, but the caller's interface has no more:
// fuse-iomap allows the length of one block only.
Result<void> MappedData::must_be_one_block(const MappingRequest& request) const {
  if (request.purpose != MappingPurpose::kDirectWrite) return fail(EOPNOTSUPP);
  const std::uint64_t block = volume_.block_size();
  if (request.range.length != block || request.range.offset % block != 0) return fail(EINVAL);
  return {};
}

// Or has them already. As ext4: only of their blocks it is known whether they were written.
bool MappedData::will_have_extents(const Inode& inode) const {
  return inode.has(EXT4_EXTENTS_FL) ||
         (inode.has(EXT4_INLINE_DATA_FL) && ext2fs_has_feature_extents(volume_.super_pointer()));
}

Result<DataMapping> MappedData::map(InodeNumber number, const MappingRequest& request) {
  // The blocks of a swap file would have to stay where they are whatever happens.
  if (request.purpose == MappingPurpose::kSwap) return fail(EOPNOTSUPP);
  const bool in_one_piece = request.pieces == MappingRequest::Pieces::kWhole;
  if (in_one_piece) RETURN_IF_ERROR(must_be_one_block(request));
  const bool writes = allocates(request.purpose);
  if (writes) RETURN_IF_ERROR(volume_.check_writable());
  {
    const auto held = metadata_.inodes.lock_shared(number);
    RETURN_IF_ERROR(must_be_known(held));
    RETURN_IF_ERROR(volume_.check_alive());
    // Under the lock: who trims idle files looks once more under his.
    if (request.purpose != MappingPurpose::kReport) given_.note_use(number);
    if (request.purpose == MappingPurpose::kDirectWrite) given_.note_direct(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    if (in_one_piece && !will_have_extents(inode)) return fail(EOPNOTSUPP);
    // The caller makes a file longer only when this was done.
    if (request.purpose == MappingPurpose::kZero &&
        request.range.offset + request.range.length > data_.size_limit(inode))
      return fail(EFBIG);
    ASSIGN_OR_RETURN(DataMapping found, look(inode, request));
    if (request.allowed == MappingRequest::Allowed::kWrittenOnly && found.kind != Kind::kWritten)
      return fail(EAGAIN);
    // Kernels of v7 do not read what lies in an inode before they make zeros of a part of it. And they have
    // memory for a block of it, where the kernel's ext4 lengthens such a file as far as it is asked to.
    const bool is_used = request.purpose != MappingPurpose::kReport;
    const bool moves_out = found.kind == Kind::kInline && is_used &&
                           (request.purpose == MappingPurpose::kZero || inode.size() > volume_.block_size());
    if (moves_out && !volume_.check_writable()) {
      volume_.tell(
          fmt::format("inode {}: what lies in the inode of a longer file cannot be given to iomap on a "
                      "volume that is not written; mount with -o noiomap",
                      number));
      return fail(EIO);
    }
    if (!moves_out && (!writes || found.has_blocks())) {
      const std::uint64_t end =
          std::min(request.range.offset + request.range.length, found.offset + found.length);
      if (writes)
        given_.note_asked(number, request.range.offset >> volume_.block_bits(), volume_.blocks_for(end));
      remember_next(inode, request, found);
      hand_over(inode, request, found);
      return found;
    }
  }
  if (writes) return allocate(number, request);
  // The kernel holds back who writes while the volume is frozen, and not who reads.
  const OwnChanges::Turn turn(volume_.own_changes());
  if (turn.is_allowed()) return allocate(number, request);
  volume_.tell(
      fmt::format("inode {}: what lies in the inode of a longer file cannot be given to iomap while the "
                  "volume is frozen",
                  number));
  return fail(EIO);
}

Result<DataMapping> MappedData::allocate(InodeNumber number, const MappingRequest& request) {
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
  RETURN_IF_ERROR(FileData::must_be_file(inode));
  inode.found_in_use = held.blocks_checked();
  const unsigned bits = volume_.block_bits();
  const std::uint64_t limit = data_.size_limit(inode);
  if (request.range.offset >= limit) return fail(EFBIG);
  const std::uint64_t end = request.range.offset + std::min(std::max<std::uint64_t>(request.range.length, 1),
                                                            limit - request.range.offset);
  const auto handle = volume_.journal().start(credits::of_map);
  // Who only reads needs no right to a block.
  if (!allocates(request.purpose)) inode.caller = Caller{};
  RETURN_IF_ERROR(data_.leave_inode(inode));
  if (!allocates(request.purpose)) {
    RETURN_IF_ERROR(metadata_.inodes.write(inode));
    return look(inode, request);
  }
  const std::uint64_t first = request.range.offset >> bits;
  const std::uint64_t needed = std::min(((end - 1) >> bits) + 1, first + kMostBlocks);
  // A write in one piece asks each time, whatever there is.
  Blocks given{.first = first, .end = needed};
  if (request.pieces == MappingRequest::Pieces::kAny)
    given = preallocation_.blocks_for(inode, request, given);
  given.end = std::min(given.end, std::max(limit >> bits, needed));
  ASSIGN_OR_RETURN(const std::uint64_t floor, first_given(inode, first, needed));
  // Of what a direct write has done before it asked nobody has heard.
  if (request.purpose == MappingPurpose::kBufferedWrite)
    RETURN_IF_ERROR(preallocation_.leave_behind(inode, first));
  // Its pages are in memory already: they are written back as the kernel's ext4 does it, which is root.
  if (request.purpose == MappingPurpose::kWriteBack) inode.caller = Caller{};
  const auto filled = fill_more(inode, given, {.first = first, .end = needed});
  if (inode.found_in_use) held.set_blocks_checked(true);
  // What was allocated stays, whatever comes next.
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  preallocation_.note_given(inode, given, {.first = first, .end = needed}, floor);
  given_.note_asked(number, first, needed);
  if (request.purpose == MappingPurpose::kDirectWrite) given_.note_direct(number);
  // Of written blocks behind the end nothing will be remembered, but the hole that they were may be.
  const std::uint64_t behind_end = std::max(given.first, files_.end_of(inode) >> bits);
  if (!inode.has(EXT4_EXTENTS_FL) && behind_end < given.end)
    (void)cache_.load()->forget(number,
                                {.offset = behind_end << bits, .length = (given.end - behind_end) << bits});
  ASSIGN_OR_RETURN(const DataMapping found, hand_over_all(inode, request, given));
  if (found.has_blocks()) return found;
  RETURN_IF_ERROR(filled);
  return fail(EIO);
}

// Not only what was asked for: of the rest the caller may have kept the hole that it was.
Result<DataMapping> MappedData::hand_over_all(const Inode& inode, const MappingRequest& request,
                                              Blocks given) {
  const unsigned bits = volume_.block_bits();
  auto all = request;
  all.range.length = request.range.offset + request.range.length - (given.first << bits);
  all.range.offset = given.first << bits;
  ASSIGN_OR_RETURN(DataMapping found, look(inode, all));
  if (found.offset + found.length <= request.range.offset) {
    RETURN_IF_ERROR(remember_up_to(inode, request, found.offset, request.range.offset));
    ASSIGN_OR_RETURN(found, look(inode, request));
  }
  if (!found.has_blocks()) return found;
  RETURN_IF_ERROR(remember_up_to(inode, request, found.offset + found.length, given.end << bits));
  hand_over(inode, request, found);
  return found;
}

// From there on all blocks up to `needed` will be given for this request. Of what is there already nobody
// knows whose wish it was.
Result<std::uint64_t> MappedData::first_given(const Inode& inode, std::uint64_t first, std::uint64_t needed) {
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, first, needed - first));
  return !parts.empty() && parts.back().kind == Mapping::Kind::kHole ? parts.back().logical : needed;
}

// Kernels of v7 may say nothing of a direct write that makes the file longer when nothing has to be
// converted: a stat beside a truncate can leave them with too large an idea of what is on the disk. Of a
// write through pages they always do.
bool MappedData::must_be_reported(const Inode& inode, const MappingRequest& request,
                                  const DataMapping& found) {
  return request.purpose == MappingPurpose::kDirectWrite && found.kind == Kind::kWritten &&
         request.range.offset + request.range.length > files_.end_of(inode);
}

// What the caller asked for last comes last: a caller who has no room for all of it keeps that.
Result<void> MappedData::remember_up_to(const Inode& inode, const MappingRequest& request, std::uint64_t at,
                                        std::uint64_t end) {
  while (at < end) {
    auto rest = request;
    rest.range = {.offset = at, .length = end - at};
    ASSIGN_OR_RETURN(DataMapping next, look(inode, rest));
    hand_over(inode, rest, next);
    if (next.offset + next.length <= at) break;
    at = next.offset + next.length;
  }
  return {};
}

// Where something is wrong with what lies behind, that is said to who asks for it.
void MappedData::remember_next(const Inode& inode, const MappingRequest& request, const DataMapping& found) {
  if (request.purpose == MappingPurpose::kReport || request.purpose == MappingPurpose::kZero) return;
  if (request.pieces == MappingRequest::Pieces::kWhole) return;
  unsigned extents = read_ahead_.extents(inode.number, request.range.offset);
  auto next = request;
  std::uint64_t at = found.offset + found.length;
  for (; extents > 0 && at < inode.size(); --extents) {
    next.range = {.offset = at, .length = inode.size() - at};
    auto mapping = look(inode, next);
    if (!mapping || (!mapping->has_blocks() && request.purpose != MappingPurpose::kRead)) break;
    hand_over(inode, next, *mapping);
    if (mapping->place != DataMapping::Place::kRemembered) break;
    at = mapping->offset + mapping->length;
  }
  read_ahead_.reached(inode.number, at);
}

Result<void> MappedData::fill_more(Inode& inode, Blocks& given, Blocks needed) {
  const Blocks more = given;
  const auto filled = fill(inode, more.first, more.end);
  if (filled || (more.first == needed.first && more.end == needed.end)) return filled;
  given = needed;
  // Nobody was told of the rest: what it took is there again, at the latest after a write-back.
  const auto unmap = [&](std::uint64_t first, std::uint64_t end) {
    return first < end ? metadata_.extents.remove(inode, first, end - first, ExtentMap::Handles::kSeveral)
                       : Result<void>();
  };
  RETURN_IF_ERROR(unmap(more.first, needed.first));
  RETURN_IF_ERROR(unmap(needed.end, more.end));
  return fill(inode, needed.first, needed.end);
}

Result<void> MappedData::fill(Inode& inode, std::uint64_t first, std::uint64_t end) {
  if (!inode.has(EXT4_EXTENTS_FL)) return fill_indirect(inode, first, end);
  while (first < end)
    RETURN_IF_ERROR(filler_.allocate_unwritten(inode, first, std::min(end - first, kMostBlocks)));
  return {};
}

// There is no unwritten state: the blocks show what they hold as soon as they are mapped.
Result<void> MappedData::fill_indirect(Inode& inode, std::uint64_t first, std::uint64_t end) {
  end = std::min(end, first + std::max<std::uint64_t>(kMostZeros >> volume_.block_bits(), 1));
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, first, end - first));
  for (const Mapping& part : parts) {
    if (part.kind != Mapping::Kind::kHole) continue;
    std::vector<HoleFiller::Piece> pieces;
    Result<void> done = filler_.fill(inode, part, 0, pieces);
    for (auto& piece : pieces) {
      if (done) done = clear(piece.where);
      if (done) done = filler_.go_on(inode);
      if (done) done = filler_.map(inode, piece, Mapping::Kind::kWritten);
    }
    if (!done) {
      filler_.abandon(inode.number, pieces);
      return done;
    }
  }
  return {};
}

Result<void> MappedData::clear(const Mapping& blocks) {
  const unsigned bits = volume_.block_bits();
  auto written =
      volume_.device().write_zeros(cache::IoPath::kDirect, blocks.physical << bits, blocks.count << bits);
  if (!written) {
    volume_.device_failed("new blocks of a file could not be written",
                          {.block = blocks.physical, .error = written.error().value()});
    return written;
  }
  volume_.order().note_contents_moved();
  return {};
}

}  // namespace fuse4fs::ext4
