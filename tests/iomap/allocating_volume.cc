// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/allocating_volume.h"

#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tests/iomap/allocating_inode.h"

namespace fuse4fs::iomap_model {

AllocatingVolume::AllocatingVolume(int device, VolumeWatch& watch, const AllocatingOptions& options)
    : device_(device),
      watch_(watch),
      options_(options),
      block_(options.shape.block_size),
      allocator_(options.shape, watch) {}

AllocatingVolume::~AllocatingVolume() = default;

void AllocatingVolume::fail_completions(int count) {
  const std::lock_guard lock(mutex_);
  failing_completions_ = count;
}

Result<AllocatingVolume::InodePointer> AllocatingVolume::find(InodeNumber number) {
  const std::lock_guard lock(mutex_);
  const auto found = inodes_.find(number);
  if (found == inodes_.end()) return fail(ESTALE);
  return found->second;
}

AllocatingVolume::Attributes AllocatingVolume::describe(const Inode& inode) const {
  return {.inode = inode.number,
          .generation = 1,
          .mode = S_IFREG | 0644,
          .links = 1,
          .size = inode.size,
          .sectors = inode.blocks.size() * (block_ / 512),
          .flags = FS_EXTENT_FL};
}

Result<AllocatingVolume::Attributes> AllocatingVolume::lookup(InodeNumber, std::string_view name) {
  InodePointer inode;
  {
    const std::lock_guard lock(mutex_);
    const auto number = names_.find(name);
    if (number == names_.end()) return fail(ENOENT);
    inode = inodes_.at(number->second);
    ++inode->lookups;
  }
  const std::lock_guard lock(inode->mutex);
  return describe(*inode);
}

Result<AllocatingVolume::Attributes> AllocatingVolume::make(InodeNumber, std::string_view name,
                                                            const ext4::NewInode&) {
  const std::lock_guard lock(mutex_);
  if (names_.contains(name)) return fail(EEXIST);
  auto inode = std::make_shared<Inode>();
  inode->number = next_inode_++;
  inode->in_inode = options_.inline_bytes > 0;
  inode->lookups = 1;
  inodes_.emplace(inode->number, inode);
  names_.emplace(name, inode->number);
  return describe(*inode);
}

Result<void> AllocatingVolume::unlink(InodeNumber, std::string_view name) {
  const std::lock_guard lock(mutex_);
  const auto number = names_.find(name);
  if (number == names_.end()) return fail(ENOENT);
  inodes_.at(number->second)->linked = false;
  names_.erase(number);
  return {};
}

void AllocatingVolume::forget(InodeNumber number, std::uint64_t count) {
  InodePointer gone;
  {
    const std::lock_guard lock(mutex_);
    const auto found = inodes_.find(number);
    if (found == inodes_.end()) return;
    Inode& inode = *found->second;
    inode.lookups -= std::min(inode.lookups, count);
    if (inode.lookups > 0 || inode.linked) return;
    gone = found->second;
    inodes_.erase(found);
  }
  const std::lock_guard lock(gone->mutex);
  (void)remove(*gone, 0, Inode::kEnd, Telling::kForgets);
}

Result<AllocatingVolume::Attributes> AllocatingVolume::attributes(InodeNumber number) {
  if (number == ext4::kRootInode) return Attributes{.inode = number, .mode = S_IFDIR | 0755, .links = 2};
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  return describe(*inode);
}

Result<AllocatingVolume::Attributes> AllocatingVolume::set_attributes(InodeNumber number,
                                                                      const ext4::AttributeChanges& changes) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  if (changes.size) RETURN_IF_ERROR(truncate(*inode, *changes.size));
  return describe(*inode);
}

Result<std::size_t> AllocatingVolume::read(InodeNumber number, std::uint64_t offset,
                                           std::span<std::byte> into, ext4::AccessTime) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  if (offset >= inode->size) return std::size_t{0};
  const std::size_t wanted = std::min<std::uint64_t>(into.size(), inode->size - offset);
  if (inode->in_inode) {
    std::ranges::copy(std::span(inode->bytes).subspan(offset, wanted), into.begin());
    return wanted;
  }
  // It was inline when the kernel asked, and lies in a block now. The kernel has no room for more than that.
  const std::size_t count = std::min<std::uint64_t>(wanted, block_ - std::min(offset, block_));
  const auto block = inode->blocks.find(0);
  if (count == 0 || block == inode->blocks.end()) return fail(EIO);
  const auto address = static_cast<off_t>(block->second.place * block_ + offset);
  if (::pread(device_, into.data(), count, address) != static_cast<ssize_t>(count)) return fail(EIO);
  return count;
}

Result<ext4::SectorCounts> AllocatingVolume::write(InodeNumber number, std::uint64_t offset,
                                                   std::span<const std::byte> from,
                                                   ext4::AttributeChanges::Privileges) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  const std::uint64_t end = offset + from.size();
  if (!inode->in_inode || end > block_) return fail(EIO);
  if (end > options_.inline_bytes) {
    RETURN_IF_ERROR(move_out(*inode));
    const auto address = static_cast<off_t>(inode->blocks.at(0).place * block_ + offset);
    if (::pwrite(device_, from.data(), from.size(), address) != static_cast<ssize_t>(from.size()))
      return fail(EIO);
  } else {
    std::ranges::copy(from, inode->bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  inode->size = std::max(inode->size, end);
  return ext4::SectorCounts{};
}

Result<void> AllocatingVolume::move_out(Inode& inode) {
  if (!inode.in_inode) return {};
  ASSIGN_OR_RETURN(const auto places, allocator_.take(1));
  const auto address = static_cast<off_t>(places.front() * block_);
  if (::pwrite(device_, inode.bytes.data(), block_, address) != static_cast<ssize_t>(block_)) {
    allocator_.give_back(places);
    return fail(EIO);
  }
  inode.blocks[0] = {.place = places.front(), .state = Inode::State::kWritten};
  RETURN_IF_ERROR(cache_->forget(inode.number, {.offset = 0, .length = block_}));
  inode.in_inode = false;
  inode.bytes = {};
  return {};
}

Result<void> AllocatingVolume::allocate(Inode& inode, std::uint64_t begin, std::uint64_t end) {
  std::vector<std::uint64_t> holes;
  for (std::uint64_t block = begin; block < end; ++block)
    if (!inode.blocks.contains(block)) holes.push_back(block);
  ASSIGN_OR_RETURN(const auto places, allocator_.take(holes.size()));
  const auto state = makes(Mistake::kMapsUninitialised) ? Inode::State::kWritten : Inode::State::kUnwritten;
  for (std::size_t at = 0; at < holes.size(); ++at)
    inode.blocks[holes[at]] = {.place = places[at], .state = state};
  return {};
}

Result<void> AllocatingVolume::forget_cached(Inode& inode, std::uint64_t begin, std::uint64_t end) {
  const std::uint64_t length = end == Inode::kEnd ? ext4::MappingCache::kToEnd : (end - begin) * block_;
  const std::uint64_t offset = begin * block_ + (makes(Mistake::kInvalidationMisaligned) ? 1 : 0);
  return cache_->forget(inode.number, {.offset = offset, .length = length});
}

Result<void> AllocatingVolume::remove(Inode& inode, std::uint64_t begin, std::uint64_t end, Telling telling) {
  if (begin >= end) return {};
  if (telling == Telling::kForgets) RETURN_IF_ERROR(forget_cached(inode, begin, end));
  std::vector<std::uint64_t> places;
  auto block = inode.blocks.lower_bound(begin);
  while (block != inode.blocks.end() && block->first < end) {
    places.push_back(block->second.place);
    if (makes(Mistake::kMapsFreedBlocks))
      ++block;
    else
      block = inode.blocks.erase(block);
  }
  allocator_.give_back(places);
  if (makes(Mistake::kFreesTwice)) allocator_.give_back(places);
  return {};
}

Result<void> AllocatingVolume::truncate(Inode& inode, std::uint64_t size) {
  if (inode.in_inode && size > options_.inline_bytes) RETURN_IF_ERROR(move_out(inode));
  const bool shrinks = size < inode.size;
  inode.size = size;
  inode.wanted_size = size;
  if (inode.in_inode) {
    std::fill(inode.bytes.begin() + static_cast<std::ptrdiff_t>(size), inode.bytes.end(), std::byte{0});
    return {};
  }
  if (makes(Mistake::kTruncateKeepsTail)) return {};
  const std::uint64_t first = makes(Mistake::kTruncateFreesTooMuch) && shrinks ? size / block_ : up(size);
  return remove(inode, first, Inode::kEnd,
                makes(Mistake::kTruncatesWithoutInvalidation) ? Telling::kNobody : Telling::kForgets);
}

Result<void> AllocatingVolume::change_range(InodeNumber number, ext4::RangeChange change,
                                            ext4::ByteRange range, ext4::EndOfFile end_of_file,
                                            ext4::AttributeChanges::Privileges, std::optional<ext4::Caller>) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  const std::lock_guard lock(inode->mutex);
  RETURN_IF_ERROR(move_out(*inode));
  const std::uint64_t end = range.offset + range.length;
  const std::uint64_t first = up(range.offset), last = end / block_;  // whole blocks
  switch (change) {
    case ext4::RangeChange::kPunchHole:
      if (makes(Mistake::kPunchKeepsData)) return {};
      return remove(*inode, first, last,
                    makes(Mistake::kPunchesWithoutInvalidation) ? Telling::kNobody : Telling::kForgets);
    case ext4::RangeChange::kZero:
    case ext4::RangeChange::kAllocate:
      RETURN_IF_ERROR(allocate(*inode, range.offset / block_, up(end)));
      break;
    default:
      return fail(EOPNOTSUPP);
  }
  if (change == ext4::RangeChange::kZero && first < last && !makes(Mistake::kZeroRangeKeepsData)) {
    RETURN_IF_ERROR(forget_cached(*inode, first, last));
    for (auto block = inode->blocks.lower_bound(first); block != inode->blocks.end() && block->first < last;
         ++block)
      block->second.state = Inode::State::kUnwritten;
  }
  if (end_of_file == ext4::EndOfFile::kMayMove && end > inode->size && !makes(Mistake::kAllocateForgetsSize))
    inode->size = inode->wanted_size = end;
  return {};
}

Result<void> AllocatingVolume::flush() {
  if (makes(Mistake::kSyncWithoutFlush)) return {};
  const std::uint64_t began = watch_.flush_begins();
  if (::fdatasync(device_) != 0) return fail_last();
  watch_.flush_ended(began);
  return {};
}

Result<void> AllocatingVolume::sync_inode(InodeNumber number, SyncWhat) {
  ASSIGN_OR_RETURN(const auto inode, find(number));
  RETURN_IF_ERROR(flush());
  const std::lock_guard lock(inode->mutex);
  // What the kernel has written by now it may not have told: after a stat it forgets that the file grew.
  if (!makes(Mistake::kTrustsAppend)) inode->size = std::max(inode->size, inode->wanted_size);
  if (const auto error = std::exchange(inode->late_error, std::nullopt)) return fail(*error);
  return {};
}

}  // namespace fuse4fs::iomap_model
