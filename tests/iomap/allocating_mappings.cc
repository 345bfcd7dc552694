// SPDX-License-Identifier: GPL-2.0-or-later
// The mapping service of AllocatingVolume.
#include <algorithm>
#include <utility>

#include "tests/iomap/allocating_inode.h"
#include "tests/iomap/allocating_volume.h"

namespace fuse4fs::iomap_model {

using ext4::DataMapping;
using ext4::MappingPurpose;
using ext4::MappingRequest;

namespace {

constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 42;

}  // namespace

ext4::MappingLimits AllocatingVolume::mapping_limits() const {
  return {.uuid = {1, 2, 3},
          .largest_file = kLargestFile,
          .most_links = 1,
          .earliest_time = 0,
          .latest_time = std::int64_t{1} << 33};
}

DataMapping AllocatingVolume::mapping_of(const Inode& inode, std::uint64_t block,
                                         std::uint64_t hole_end) const {
  const auto at = inode.blocks.find(block);
  if (at == inode.blocks.end()) {
    const auto next = inode.blocks.upper_bound(block);
    const std::uint64_t end = next == inode.blocks.end() ? std::max(hole_end, block + 1) : next->first;
    return {.offset = block * block_, .length = (end - block) * block_};
  }
  const auto goes_on = [](const auto& left, const auto& right) {
    return left.first + 1 == right.first && left.second.place + 1 == right.second.place &&
           left.second.state == right.second.state;
  };
  // A few blocks in front of what was asked for belong to it as well.
  constexpr int kInFront = 3;
  auto begin = at;
  for (int steps = 0; steps < kInFront && begin != inode.blocks.begin() && goes_on(*std::prev(begin), *begin);
       ++steps)
    --begin;
  auto last = at;
  while (std::next(last) != inode.blocks.end() && goes_on(*last, *std::next(last)) &&
         last->first + 1 - begin->first < options_.longest_mapping)
    ++last;
  return {.kind = at->second.state == Inode::State::kWritten ? DataMapping::Kind::kWritten
                                                             : DataMapping::Kind::kUnwritten,
          .offset = begin->first * block_,
          .length = (last->first + 1 - begin->first) * block_,
          .device_offset = begin->second.place * block_};
}

Result<DataMapping> AllocatingVolume::answer(Inode& inode, const MappingRequest& request) {
  const std::uint64_t end = request.range.offset + request.range.length;
  const std::uint64_t block = request.range.offset / block_;
  if (inode.in_inode &&
      (request.range.offset >= block_ || request.purpose == MappingPurpose::kSwap ||
       request.purpose == MappingPurpose::kDirectWrite) &&
      (allocates(request.purpose) || request.purpose == MappingPurpose::kSwap))
    RETURN_IF_ERROR(move_out(inode));
  if (inode.in_inode) {
    if (block == 0) return DataMapping{.kind = DataMapping::Kind::kInline, .offset = 0, .length = block_};
    return mapping_of(inode, block, std::max(up(end), up(inode.size)));
  }
  const auto found = inode.blocks.find(block);
  if (request.allowed == MappingRequest::Allowed::kWrittenOnly &&
      (found == inode.blocks.end() || found->second.state != Inode::State::kWritten))
    return fail(EAGAIN);
  if (found == inode.blocks.end() && allocates(request.purpose)) {
    if (request.range.offset >= kLargestFile) return fail(EFBIG);
    const auto next = inode.blocks.upper_bound(block);
    const std::uint64_t most = next == inode.blocks.end() ? Inode::kEnd : next->first;
    RETURN_IF_ERROR(allocate(inode, block, std::min({up(end), most, block + options_.longest_mapping})));
  }
  DataMapping mapping = mapping_of(inode, block, std::max(up(end), up(inode.size)));
  // The kernel goes on with such a mapping from page to page without asking whether it is good, beside
  // whoever punches holes in front of it: not a block more than there was data for.
  if (request.purpose == MappingPurpose::kWriteBack && !makes(Mistake::kLongWritebackAnswers))
    mapping.length = std::min(mapping.length, up(end) * block_ - mapping.offset);
  // It has told of them.
  if (request.purpose == MappingPurpose::kReport) {
    const std::uint64_t front = block * block_ - mapping.offset;
    mapping.offset += front;
    mapping.length -= front;
    if (mapping.has_blocks()) mapping.device_offset += front;
  }
  if (request.pieces == MappingRequest::Pieces::kWhole) {
    if (mapping.offset + mapping.length < end) return fail(EOPNOTSUPP);
    mapping.pieces = DataMapping::Pieces::kWhole;
  }
  return mapping;
}

void AllocatingVolume::move_elsewhere(Inode& inode) {
  const auto places = allocator_.take(inode.blocks.size());
  if (!places) return;
  // What they held stays where it was, taken for good.
  for (std::size_t at = 0; auto& [number, block] : inode.blocks) block.place = (*places)[at++];
}

void AllocatingVolume::spoil(Inode& inode, DataMapping& mapping) {
  if (mapping.kind == DataMapping::Kind::kHole) return;
  // Every file begins where the first one does.
  if (makes(Mistake::kTwoFilesOverlap)) mapping.device_offset = mapping.offset;
  if (makes(Mistake::kMovesWithoutInvalidation) && mapping.kind == DataMapping::Kind::kWritten &&
      !inode.late_error)
    move_elsewhere(inode);
}

Result<DataMapping> AllocatingVolume::map(InodeNumber number, const MappingRequest& request) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  ASSIGN_OR_RETURN(DataMapping mapping, answer(*inode, request));
  const bool is_for_use = request.purpose != MappingPurpose::kSwap &&
                          request.purpose != MappingPurpose::kReport &&
                          request.pieces == MappingRequest::Pieces::kAny;
  if (options_.remember != AllocatingOptions::Remember::kNothing && is_for_use &&
      mapping.kind != DataMapping::Kind::kInline) {
    DataMapping remembered = mapping;
    if (makes(Mistake::kRemembersBehindDevice)) remembered.device_offset = std::uint64_t{1} << 40;
    const bool kept = cache_->remember(number, remembered);
    if (kept && options_.remember == AllocatingOptions::Remember::kByCache)
      mapping.place = DataMapping::Place::kRemembered;
  }
  spoil(*inode, mapping);
  return mapping;
}

Result<void> AllocatingVolume::finish(InodeNumber number, const ext4::FinishedOperation& operation) {
  if (makes(Mistake::kEndRefused)) return fail(EIO);
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  const std::uint64_t done = operation.range.offset + operation.done;
  if (operation.end_of_file == ext4::FinishedOperation::EndOfFile::kMoved)
    inode->wanted_size = std::max(inode->wanted_size, done);
  const bool is_short = operation.purpose == MappingPurpose::kBufferedWrite &&
                        operation.done < operation.range.length && !inode->in_inode;
  if (!is_short) return {};
  // What was allocated for what did not come, where nothing else can have come.
  const std::uint64_t first = up(std::max({done, inode->wanted_size, inode->size}));
  return remove(*inode, first, up(operation.range.offset + operation.range.length),
                makes(Mistake::kFreesShortWritesUnasked) ? Telling::kNobody : Telling::kForgets);
}

Result<std::uint64_t> AllocatingVolume::complete_write(InodeNumber number,
                                                       const ext4::CompletedWrite& write) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  bool fails = makes(Mistake::kIoendRefused);
  {
    const std::lock_guard lock(mutex_);
    if (failing_completions_ > 0) {
      --failing_completions_;
      fails = true;
    }
  }
  const std::lock_guard lock(inode->mutex);
  if (write.kind == ext4::CompletedWrite::Kind::kSwapOff) return inode->size;
  if (write.error && !makes(Mistake::kConvertsFailedWrites)) return inode->size;
  if (fails) {
    if (!makes(Mistake::kIoendErrorNotKept)) inode->late_error = Errno(EIO);
    return fail(EIO);
  }
  const std::uint64_t end = write.range.offset + write.range.length;
  const bool converts =
      (write.extents == ext4::CompletedWrite::Extents::kUnwritten || write.error) && !inode->in_inode;
  if (converts && !makes(Mistake::kForgetsConversion)) {
    const std::uint64_t too_far = makes(Mistake::kConvertsTooFar) ? 4 : 0;
    for (auto block = inode->blocks.lower_bound(write.range.offset / block_);
         block != inode->blocks.end() && block->first < up(end) + too_far; ++block)
      block->second.state = Inode::State::kWritten;
  }
  const std::uint64_t size = std::max(inode->size, end);
  if (!makes(Mistake::kSizeNotMoved)) inode->size = size;
  return size;
}

}  // namespace fuse4fs::iomap_model
