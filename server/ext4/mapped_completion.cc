// SPDX-License-Identifier: GPL-2.0-or-later
// What became of data that the caller has moved, and what is settled of it then.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "server/ext4/credits.h"
#include "server/ext4/mapped_data.h"

namespace fuse4fs::ext4 {

Result<void> MappedData::finish(InodeNumber number, const FinishedOperation& operation) {
  if (!allocates(operation.purpose)) return {};
  const auto held = metadata_.inodes.lock_shared(number);
  RETURN_IF_ERROR(must_be_known(held));
  given_.note_use(number);
  const std::uint64_t end = operation.range.offset + operation.done;
  if (operation.end_of_file == FinishedOperation::EndOfFile::kMoved && operation.done > 0)
    files_.note_size(number, end);
  // What a write did not come to was mapped for nothing.
  if (operation.done < operation.range.length)
    given_.shorten(number, volume_.blocks_for(operation.range.offset + operation.range.length),
                   volume_.blocks_for(end));
  return {};
}

Result<std::uint64_t> MappedData::complete_write(InodeNumber number, const CompletedWrite& write) {
  volume_.device().note_foreign_writes();
  const auto note_use = [&] {
    given_.note_use(number);
    if (write.way == CompletedWrite::Way::kDirect) given_.note_direct(number);
  };
  if (write.error) note_failed(number, write, *write.error);
  const bool nothing = write.error || write.kind == CompletedWrite::Kind::kSwapOff || write.range.length == 0;
  if (nothing) {
    const auto held = metadata_.inodes.lock_shared(number);
    RETURN_IF_ERROR(must_be_known(held));
    note_use();
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    return inode.size();
  }
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(must_be_known(held));
  note_use();
  // The data, before what shows it.
  volume_.order().note_contents_moved();
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
  RETURN_IF_ERROR(FileData::must_be_file(inode));
  const std::uint64_t end = write.range.offset + write.range.length;
  if (end > data_.size_limit(inode)) return fail(EFBIG);
  const bool converts = write.extents == CompletedWrite::Extents::kUnwritten && inode.has(EXT4_EXTENTS_FL);
  if (!converts && end <= inode.size()) return inode.size();
  const auto handle = volume_.journal().start(converts ? credits::of_map : credits::of_attributes);
  Result<void> done;
  if (converts) {
    const std::uint64_t first = write.range.offset >> volume_.block_bits();
    const std::uint64_t count = ((end - 1) >> volume_.block_bits()) - first + 1;
    const auto mapped = must_be_mapped(inode, first, count);
    done =
        metadata_.extents.convert(inode, first, count, Mapping::Kind::kWritten, ExtentMap::Handles::kSeveral);
    if (done) done = mapped;
    given_.note_settled(number, first, first + count);
  }
  if (done && end > inode.size()) inode.set_size(end);
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  RETURN_IF_ERROR(done);
  return inode.size();
}

// What was written into blocks that are not the file's any more is lost, and may be in another's.
Result<void> MappedData::must_be_mapped(const Inode& inode, std::uint64_t first, std::uint64_t count) {
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, first, count));
  for (const Mapping& part : parts) {
    if (part.kind != Mapping::Kind::kHole) continue;
    volume_.tell(fmt::format("inode {}: data was written to its blocks {} to {}, which it does not have",
                             inode.number, part.logical, part.end() - 1));
    return fail(EIO);
  }
  return {};
}

void MappedData::note_failed(InodeNumber number, const CompletedWrite& write, Errno error) {
  if (write.way != CompletedWrite::Way::kWriteBack) return;
  // Under the lock: it would stay if the inode were forgotten meanwhile.
  const auto held = metadata_.inodes.lock_shared(number);
  if (held.has_lookups()) files_.note_error(number, error);
}

Result<void> MappedData::set_size(const InodeTable::Exclusive& held, std::uint64_t size) {
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  if (!inode.is_regular() || size <= inode.size()) return {};
  // No file could have got so long.
  if (size > data_.size_limit(inode)) return {};
  RETURN_IF_ERROR(volume_.check_writable());
  const auto handle = volume_.journal().start(credits::of_attributes);
  inode.set_size(size);
  return metadata_.inodes.write(inode);
}

// A larger one that is noted meanwhile stays noted.
Result<void> MappedData::take_size_over(const InodeTable::Exclusive& held) {
  const std::uint64_t size = files_.size_of(held.number());
  if (size == 0 || !metadata_.inodes.read_from_handle(held)) return {};
  RETURN_IF_ERROR(set_size(held, size));
  files_.forget_size(held.number(), size);
  return {};
}

Result<void> MappedData::settle(InodeNumber number) {
  if (!is_used()) return {};
  volume_.device().note_foreign_writes();
  if (files_.size_of(number) != 0) RETURN_IF_ERROR(take_size_over(metadata_.inodes.lock(number)));
  if (const auto error = files_.take_error(number)) return fail(*error);
  return {};
}

Result<void> MappedData::settle_all() {
  if (!is_used()) return {};
  volume_.device().note_foreign_writes();
  Result<void> outcome;
  for (const InodeNumber number : files_.all_with_size())
    if (auto done = take_size_over(metadata_.inodes.lock(number)); !done) outcome = done;
  return outcome;
}

Result<void> MappedData::any_error() {
  const auto error = files_.any_error();
  return error ? fail(*error) : Result<void>();
}

Result<void> MappedData::show_size(InodeNumber number) {
  if (!is_used() || files_.size_of(number) == 0) return {};
  const auto held = metadata_.inodes.lock(number);
  const std::uint64_t size = files_.size_of(number);
  return size == 0 ? Result<void>() : set_size(held, size);
}

void MappedData::note_resized(InodeNumber number, std::uint64_t before, std::uint64_t size) {
  if (!is_used()) return;
  files_.forget_size(number, std::numeric_limits<std::uint64_t>::max());
  if (size <= before) given_.cut(number, volume_.blocks_for(size));
  // The block that holds the end now is not to be remembered any more. Who does not know the file has nothing
  // to forget.
  const std::uint64_t block = volume_.block_size();
  if (size < before && size % block != 0)
    (void)cache_.load()->forget(number, {.offset = size & ~(block - 1), .length = block});
}

void MappedData::note_range_change(InodeNumber number, RangeChange change, ByteRange range) {
  if (!is_used()) return;
  const auto held = metadata_.inodes.lock_shared(number);
  const auto inode = metadata_.inodes.read_from_handle(held);
  // Without extents nothing can be asked for behind the end of a file, and nothing may stay there.
  if (!inode || !inode->has(EXT4_EXTENTS_FL) || !data_.may_change_range(*inode, change, range)) return;
  // That does nothing.
  if (change == RangeChange::kPunchHole && range.offset >= files_.end_of(*inode)) return;
  const auto up = [&](std::uint64_t bytes) { return volume_.blocks_for(bytes); };
  const auto down = [&](std::uint64_t bytes) { return bytes >> volume_.block_bits(); };
  const std::uint64_t last = range.offset + range.length;
  switch (change) {
    case RangeChange::kAllocate:
    case RangeChange::kZero:
      return given_.disown(number, down(range.offset), up(last));
    case RangeChange::kPunchHole:
      // Whole blocks go, and no others.
      if (up(range.offset) < down(last)) given_.disown(number, up(range.offset), down(last));
      return;
    case RangeChange::kCollapse:
    case RangeChange::kInsert:
      given_.forget_ahead(number);
      return given_.forget_beside(number);
  }
}

void MappedData::forget(InodeNumber number) {
  files_.forget(number);
  given_.forget(number);
}

// One that is looked up again meanwhile keeps what it has. What goes wrong was told to Events.
void MappedData::note_forgotten(InodeNumber number) {
  if (!is_used() || !(files_.knows(number) || given_.knows(number))) return;
  const auto held = metadata_.inodes.lock(number);
  if (held.has_lookups()) return;
  // It may be gone altogether.
  if (const auto inode = metadata_.inodes.read_from_handle(held); inode && inode->raw.i_links_count != 0) {
    (void)take_size_over(held);
    (void)preallocation_.trim(held);
  }
  forget(number);
}

}  // namespace fuse4fs::ext4
