// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/speculative_preallocation.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <thread>
#include <vector>

#include "server/ext4/credits.h"

namespace fuse4fs::ext4 {
namespace {

using Why = PreallocatedBlocks::Why;
using Written = PreallocatedBlocks::Written;

// As much again as the file has; in bytes.
constexpr std::uint64_t kLeast = 64 << 10, kMost = 64 << 20;
// Of files that are written directly, whose cannot be taken back so easily.
constexpr std::uint64_t kMostDirect = 32 << 20;
// Not at the cost of others: of what is free, no more than one part in so many, for all files together.
constexpr std::uint64_t kPlenty = 8;
// Beside a write in a hole, with what is written: that much, aligned, in bytes; and of all files no more than
// this, for it cannot be taken back at once.
constexpr std::uint64_t kBeside = 64 << 10, kMostBeside = 256 << 20;
// Who fills a hole in no order has written much of it before anybody hears of that.
constexpr std::uint64_t kPlentyBeside = 4;
// Between the caller's forgetting and the unmapping, where others wait for room: for a write that had its
// mapping in hand to end, and to be known by that.
constexpr std::chrono::seconds kUnderWay{1};

std::uint64_t left_of(std::uint64_t usable, SpeculativePreallocation::Blocks needed) {
  return usable - std::min(usable, needed.end - needed.first);
}

}  // namespace

SpeculativePreallocation::Blocks SpeculativePreallocation::blocks_for(const Inode& inode,
                                                                      const MappingRequest& request,
                                                                      Blocks needed) {
  const std::uint64_t end = end_ahead(inode, request, needed);
  return end > needed.end ? Blocks{.first = needed.first, .end = end}
                          : blocks_in_hole(inode, request, needed);
}

std::uint64_t SpeculativePreallocation::end_ahead(const Inode& inode, const MappingRequest& request,
                                                  Blocks needed) {
  const std::uint64_t end = request.range.offset + request.range.length;
  const std::uint64_t size = files_.end_of(inode);
  // Not of a file with holes: what lies ahead of one write is a hole before the next.
  const std::uint64_t known = std::max(size, given_.ahead_of(inode.number).end << volume_.block_bits());
  const bool grows = end > size && request.range.offset != 0 && request.range.offset <= known;
  if (!grows || request.purpose == MappingPurpose::kWriteBack || !inode.has(EXT4_EXTENTS_FL))
    return needed.end;
  const std::uint64_t most = request.purpose == MappingPurpose::kDirectWrite ? kMostDirect : kMost;
  const std::uint64_t wish = std::clamp(std::bit_floor(end), kLeast, most) >> volume_.block_bits();
  const std::uint64_t usable = metadata_.blocks.usable_blocks(inode);
  const std::uint64_t share = usable / kPlenty, others = given_.blocks_ahead();
  const std::uint64_t ahead = std::min({wish, share > others ? share - others : 0, left_of(usable, needed)});
  if (ahead == 0) return needed.end;
  // What is mapped there already was asked for by somebody, who would lose it with the rest.
  const auto behind = metadata_.extents.find(inode, needed.end);
  if (!behind || behind->kind != Mapping::Kind::kHole) return needed.end;
  return needed.end + std::min(ahead, behind->count);
}

SpeculativePreallocation::Blocks SpeculativePreallocation::blocks_in_hole(const Inode& inode,
                                                                          const MappingRequest& request,
                                                                          Blocks needed) {
  if (request.purpose != MappingPurpose::kBufferedWrite || !inode.has(EXT4_EXTENTS_FL)) return needed;
  const std::uint64_t size = volume_.blocks_for(files_.end_of(inode));
  if (needed.end > size) return needed;
  // It would keep them for as long as it is known.
  if (given_.written(inode.number) == Written::kDirectly) return needed;
  const std::uint64_t beside = given_.blocks_beside();
  const std::uint64_t usable = metadata_.blocks.usable_blocks(inode);
  const std::uint64_t most = std::min(kMostBeside >> volume_.block_bits(), (usable + beside) / kPlentyBeside);
  const std::uint64_t unit = kBeside >> volume_.block_bits();
  // In front, and behind.
  if (unit <= 1 || beside + unit > most || 2 * unit > left_of(usable, needed)) return needed;
  const Blocks given{.first = needed.first / unit * unit,
                     .end = std::min((needed.end + unit - 1) / unit * unit, size)};
  const auto parts = metadata_.extents.map(inode, given.first, given.end - given.first);
  if (!parts) return needed;
  // The hole that it lies in, and no other.
  for (const Mapping& part : *parts)
    if (part.logical <= needed.first && part.end() >= needed.end && part.kind == Mapping::Kind::kHole)
      return {.first = std::max(given.first, part.logical), .end = std::min(given.end, part.end())};
  return needed;
}

void SpeculativePreallocation::note_given(const Inode& inode, Blocks given, Blocks needed,
                                          std::uint64_t floor) {
  if (given.end > volume_.blocks_for(files_.end_of(inode))) {
    // Without extents all of it is: what lies behind the end of a file must be unwritten, or nothing.
    const std::uint64_t first = inode.has(EXT4_EXTENTS_FL) ? needed.end : needed.first;
    if (given.end > floor)
      given_.note_ahead(inode.number, {.floor = floor, .first = first, .end = given.end});
    return;
  }
  given_.note_beside(inode.number, given.first, needed.first);
  given_.note_beside(inode.number, needed.end, given.end);
}

std::uint64_t SpeculativePreallocation::unused_sectors(const Inode& inode) {
  if (!inode.has(EXT4_EXTENTS_FL)) return 0;
  const Unused ahead = unused_of(inode);
  const std::uint64_t cluster = volume_.cluster_blocks();
  std::uint64_t blocks = 0;
  if (cluster == 1) {
    blocks = ahead.count + given_.blocks_beside_of(inode.number);
  } else {
    // A cluster that is used in part is the file's anyway.
    const auto count = [&](std::uint64_t first, std::uint64_t some) {
      const std::uint64_t begin = (first + cluster - 1) / cluster * cluster;
      const std::uint64_t end = (first + some) / cluster * cluster;
      if (end > begin) blocks += end - begin;
    };
    count(ahead.first, ahead.count);
    given_.beside_of(inode.number).for_each(count);
  }
  const std::uint64_t sectors = blocks << (volume_.block_bits() - 9);
  return std::min(sectors, inode.sectors(volume_.super(), volume_.block_size()));
}

SpeculativePreallocation::Unused SpeculativePreallocation::unused_of(const Inode& inode) {
  const PreallocatedBlocks::Ahead ahead = given_.ahead_of(inode.number);
  if (inode.has(EXT4_INLINE_DATA_FL)) return {};
  std::uint64_t first = volume_.blocks_for(files_.end_of(inode));
  // Without extents nothing can be asked for behind the end of a file, and nothing may stay there.
  if (inode.has(EXT4_EXTENTS_FL)) first = std::max(first, ahead.first);
  const std::uint64_t end = std::min(ahead.end, metadata_.extents.block_limit(inode));
  return {.first = first, .count = end > first ? end - first : 0};
}

Result<void> SpeculativePreallocation::leave_behind(Inode& inode, std::uint64_t first) {
  const Unused unused = unused_of(inode);
  if (unused.count == 0 || unused.first + unused.count >= first) return {};
  given_.forget_ahead(inode.number);
  const unsigned bits = volume_.block_bits();
  if (!cache_.load()->forget(inode.number, {.offset = unused.first << bits, .length = unused.count << bits}))
    return {};
  return metadata_.extents.remove(inode, unused.first, unused.count, ExtentMap::Handles::kSeveral);
}

Result<void> SpeculativePreallocation::trim(const InodeTable::Exclusive& held) {
  RETURN_IF_ERROR(trim_ahead(held, 0));
  return trim_beside(held, given_.beside_of(held.number()));
}

Result<std::uint64_t> SpeculativePreallocation::trim_ahead(const InodeTable::Exclusive& held,
                                                           std::uint64_t from) {
  const InodeNumber number = held.number();
  if (given_.ahead_of(number).is_empty() || !volume_.check_writable() ||
      !metadata_.inodes.read_from_handle(held))
    return 0;
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
  const Unused unused = unused_of(inode);
  const std::uint64_t end = unused.first + unused.count;
  const std::uint64_t first = std::max(unused.first, from);
  given_.forget_ahead(number, first > unused.first ? first : 0);
  if (first >= end) return 0;
  const auto handle = volume_.journal().start(credits::of_map);
  const auto done = metadata_.extents.remove(inode, first, end - first, ExtentMap::Handles::kSeveral);
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  RETURN_IF_ERROR(done);
  return end - first;
}

Result<void> SpeculativePreallocation::trim_beside(const InodeTable::Exclusive& held,
                                                   const BlockRuns& beside) {
  if (beside.count() == 0 || !volume_.check_writable() || !metadata_.inodes.read_from_handle(held)) return {};
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
  given_.forget_beside(held.number(), beside);
  const auto handle = volume_.journal().start(credits::of_map);
  const auto done = remove_beside(inode, beside);
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  return done;
}

// Whatever became of them meanwhile: only what shows nothing goes.
Result<void> SpeculativePreallocation::remove_beside(Inode& inode, const BlockRuns& beside) {
  if (!inode.has(EXT4_EXTENTS_FL)) return {};
  Result<void> done;
  beside.for_each([&](std::uint64_t first, std::uint64_t count) {
    if (!done) return;
    const auto parts = metadata_.extents.map(inode, first, count);
    if (!parts) done = fail(parts.error());
    for (std::size_t i = 0; done && i < parts->size(); ++i) {
      const Mapping& part = (*parts)[i];
      if (part.kind == Mapping::Kind::kUnwritten)
        done = metadata_.extents.remove(inode, part.logical, part.count, ExtentMap::Handles::kSeveral);
    }
  });
  return done;
}

bool SpeculativePreallocation::take_mappings_back(InodeNumber number, Why why) {
  Unused unused;
  {
    const auto held = metadata_.inodes.lock(number);
    const auto inode = metadata_.inodes.read_from_handle(held);
    if (inode) unused = unused_of(*inode);
    if (unused.count == 0) {
      // The file has grown over it.
      if (why == Why::kIdle) given_.forget_ahead(number);
      return false;
    }
    given_.begin_departure_ahead(number, why, unused.first);
  }
  const ByteRange range{.offset = unused.first << volume_.block_bits(), .length = MappingCache::kToEnd};
  if (cache_.load()->forget(number, range)) {
    given_.note_forgotten_ahead(number);
    return true;
  }
  // What the caller does not forget stays the file's.
  const auto held = metadata_.inodes.lock(number);
  given_.forget_ahead(number);
  return false;
}

void SpeculativePreallocation::take_mappings_beside_back(InodeNumber number) {
  std::uint64_t first = UINT64_MAX;
  {
    const auto held = metadata_.inodes.lock(number);
    first = given_.begin_departure_beside(number);
  }
  if (first == UINT64_MAX) return;
  const ByteRange range{.offset = first << volume_.block_bits(), .length = MappingCache::kToEnd};
  if (cache_.load()->forget(number, range)) return given_.note_forgotten_beside(number);
  const auto held = metadata_.inodes.lock(number);
  given_.forget_beside(number);
}

void SpeculativePreallocation::age() {
  const auto due = given_.due();
  for (const InodeNumber number : due.ahead_to_forget) take_mappings_back(number, Why::kIdle);
  for (const InodeNumber number : due.beside_to_forget) take_mappings_beside_back(number);
  for (const InodeNumber number : due.ahead_to_trim) {
    const auto held = metadata_.inodes.lock(number);
    if (const auto from = given_.departed_ahead(number, PreallocatedBlocks::kTransfer))
      (void)trim_ahead(held, *from);
  }
  for (const InodeNumber number : due.beside_to_trim) {
    const auto held = metadata_.inodes.lock(number);
    (void)trim_beside(held, given_.departed_beside(number, PreallocatedBlocks::kPages));
  }
}

bool SpeculativePreallocation::give_back_for_room() {
  const std::uint64_t before = rounds_for_room_;
  const std::unique_lock turn(room_);
  // Somebody else has done it meanwhile.
  if (rounds_for_room_ != before) return last_round_found_room_;
  last_round_found_room_ = look_for_room();
  // Behind it: who comes meanwhile takes its result.
  ++rounds_for_room_;
  return last_round_found_room_;
}

bool SpeculativePreallocation::look_for_room() {
  struct Departures {
    PreallocatedBlocks& given;
    std::vector<InodeNumber> files;
    ~Departures() {
      for (const InodeNumber number : files) given.end_departure_ahead(number);
    }
  } leaving{.given = given_, .files = {}};
  const auto all = given_.all(Written::kByPages);
  leaving.files.reserve(all.size());
  bool any_leaves = false;
  for (const InodeNumber number : all) {
    if (given_.ahead_of(number).is_empty()) continue;
    leaving.files.push_back(number);
    any_leaves = take_mappings_back(number, Why::kRoom) || any_leaves;
  }
  if (!any_leaves) return false;
  std::this_thread::sleep_for(kUnderWay);
  bool any = false;
  for (const InodeNumber number : leaving.files) {
    const auto held = metadata_.inodes.lock(number);
    if (const auto from = given_.departed_ahead(number, {}))
      any = trim_ahead(held, *from).value_or(0) != 0 || any;
  }
  return any;
}

void SpeculativePreallocation::give_back_all() {
  for (const auto written : {Written::kByPages, Written::kDirectly})
    for (const InodeNumber number : given_.all(written)) (void)trim(metadata_.inodes.lock(number));
}

}  // namespace fuse4fs::ext4
