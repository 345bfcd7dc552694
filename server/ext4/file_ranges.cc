// SPDX-License-Identifier: GPL-2.0-or-later
// FileData: fallocate, seek and copy_range.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>

#include "server/ext4/credits.h"
#include "server/ext4/file_data.h"

namespace fuse4fs::ext4 {
namespace {

// Blocks that are allocated at once. Two such extents, written, make a whole one.
constexpr std::uint64_t kLongestRun = 1 << 14;
// What is done before others may come between.
constexpr int kRunsAtOnce = 16;
constexpr std::uint64_t kBlocksAtOnce = 1 << 18;
// Of a copy; as a READ and a WRITE of the kernel's.
constexpr std::size_t kCopyPiece = 1 << 20;
constexpr std::uint64_t kPage = 4096;  // bytes
// The kernel's longest transfer, which is what its own copy comes to (MAX_RW_COUNT).
constexpr std::uint64_t kLongestCopy = 0x7ffff000;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) & ~(unit - 1);
}

}  // namespace

std::uint64_t FileData::volume_size_limit() const {
  std::uint64_t limit = ((std::uint64_t{1} << 32) - 1) << volume_.block_bits();
  if (!ext2fs_has_feature_huge_file(volume_.super_pointer())) {
    // i_blocks counts 512 bytes in 32 bits.
    const std::uint64_t counted = ((std::uint64_t{1} << 32) - 1) * 512;
    limit = std::min(limit, counted & ~(std::uint64_t{volume_.block_size()} - 1));
  }
  return limit;
}

Result<void> FileData::may_change_range(const Inode& inode, RangeChange change, ByteRange range) const {
  if (range.length == 0) return fail(EINVAL);
  RETURN_IF_ERROR(must_be_file(inode));
  if (inode.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  if (inode.has(EXT2_APPEND_FL) && change != RangeChange::kAllocate) return fail(EPERM);
  const std::uint64_t limit = volume_size_limit();
  return range.offset > limit || range.length > limit - range.offset ? fail(EFBIG) : Result<void>();
}

Result<void> FileData::change_range(InodeNumber number, RangeChange change, ByteRange range,
                                    EndOfFile end_of_file, AttributeChanges::Privileges privileges,
                                    std::optional<Caller> caller) {
  // All of the file, as the kernel's inode lock: the map changes in several steps.
  const auto claim = claims_.claim(number, 0, RangeClaims::kToTheEnd, RangeClaims::Mode::kExclusive);
  {
    const auto held = metadata_.inodes.lock(number);
    RETURN_IF_ERROR(volume_.check_writable());
    ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(held));
    RETURN_IF_ERROR(may_change_range(inode, change, range));
    const auto handle = volume_.journal().start(credits::of_map);
    RETURN_IF_ERROR(leave_inode(inode));
    if (change != RangeChange::kPunchHole && !inode.has(EXT4_EXTENTS_FL)) return fail(EOPNOTSUPP);
    RETURN_IF_ERROR(note_change(inode, privileges));
    RETURN_IF_ERROR(metadata_.inodes.write(inode));
  }
  const std::uint64_t end = range.offset + range.length;
  if (change == RangeChange::kPunchHole) return punch(number, range.offset, end);
  if (change == RangeChange::kCollapse) return collapse(number, range.offset, end);
  if (change == RangeChange::kInsert) return insert(number, range.offset, range.length);

  const unsigned bits = volume_.block_bits();
  const std::uint64_t first_whole = round_up(range.offset, volume_.block_size()) >> bits;
  const std::uint64_t behind_whole = end >> bits;
  RETURN_IF_ERROR(
      allocate(number, range.offset >> bits, round_up(end, volume_.block_size()) >> bits, caller));
  if (change == RangeChange::kZero) {
    RETURN_IF_ERROR(zero_edges(number, range.offset, end));
    RETURN_IF_ERROR(in_parts(number, first_whole, behind_whole,
                             [this](Inode& inode, std::uint64_t from, std::uint64_t count) {
                               return metadata_.extents.convert(inode, from, count, Mapping::Kind::kUnwritten,
                                                                ExtentMap::Handles::kSeveral);
                             }));
  }
  return end_of_file == EndOfFile::kKeep ? Result<void>() : grow(number, end);
}

// If it is shorter.
Result<void> FileData::grow(InodeNumber number, std::uint64_t size) {
  Tail tail;
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    if (size <= inode.size()) return {};
    ASSIGN_OR_RETURN(tail, tail_between(inode, inode.size(), size));
  }
  RETURN_IF_ERROR(clear(tail));
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  const auto handle = volume_.journal().start(credits::of_attributes);
  inode.set_size(size);
  return metadata_.inodes.write(inode);
}

template <class Step>
Result<void> FileData::in_parts(InodeNumber number, std::uint64_t first, std::uint64_t end, Step step) {
  for (bool again = false; first < end; again = true) {
    if (again) let_others_in();
    const auto held = metadata_.inodes.lock(number);
    RETURN_IF_ERROR(volume_.check_writable());
    // Read again each time: the claim holds the map still, not the rest of the inode.
    ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
    const std::uint64_t count = std::min(end - first, kBlocksAtOnce);
    const auto handle = volume_.journal().start(credits::of_map);
    const auto done = step(inode, first, count);
    const auto written = metadata_.inodes.write(inode);
    RETURN_IF_ERROR(done);
    RETURN_IF_ERROR(written);
    first += count;
  }
  return {};
}

Result<void> FileData::punch(InodeNumber number, std::uint64_t offset, std::uint64_t end) {
  const std::uint64_t block = volume_.block_size();
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    const std::uint64_t most = (metadata_.extents.block_limit(inode) << volume_.block_bits()) - block;
    // As ext4: what was allocated behind the end of the file stays, but for the rest of its last page.
    if (offset >= inode.size() || offset >= most) return {};
    // Where the caller moves the data, whole blocks are all that he leaves to us.
    if (!data_is_callers_ && end > inode.size())
      end = std::max(offset, round_up(inode.size(), std::max(kPage, block)));
    end = std::min(end, most);
  }
  RETURN_IF_ERROR(zero_edges(number, offset, end));
  return in_parts(number, round_up(offset, block) >> volume_.block_bits(), end >> volume_.block_bits(),
                  [this](Inode& inode, std::uint64_t first, std::uint64_t count) {
                    return metadata_.extents.remove(inode, first, count, ExtentMap::Handles::kSeveral);
                  });
}

// The kernel's FUSE (6.18) asks for neither of these two: it refuses them itself.
Result<void> FileData::collapse(InodeNumber number, std::uint64_t offset, std::uint64_t end) {
  const unsigned bits = volume_.block_bits();
  const std::uint64_t unit = std::uint64_t{volume_.cluster_blocks()} << bits;
  if (((offset | end) & (unit - 1)) != 0) return fail(EINVAL);
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    // That would be a truncate.
    if (end >= inode.size()) return fail(EINVAL);
  }
  const std::uint64_t first = offset >> bits, count = (end - offset) >> bits;
  constexpr auto kSeveral = ExtentMap::Handles::kSeveral;
  RETURN_IF_ERROR(
      in_parts(number, first, first + count, [this](Inode& inode, std::uint64_t from, std::uint64_t blocks) {
        return metadata_.extents.remove(inode, from, blocks, kSeveral);
      }));
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  const auto handle = volume_.journal().start(credits::of_map);
  RETURN_IF_ERROR(metadata_.extents.collapse(inode, first, count, kSeveral));
  inode.set_size(inode.size() - (end - offset));
  return metadata_.inodes.write(inode);
}

Result<void> FileData::insert(InodeNumber number, std::uint64_t offset, std::uint64_t length) {
  const unsigned bits = volume_.block_bits();
  const std::uint64_t unit = std::uint64_t{volume_.cluster_blocks()} << bits;
  if (((offset | length) & (unit - 1)) != 0) return fail(EINVAL);
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_.check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  if (length > volume_size_limit() - std::min(volume_size_limit(), inode.size())) return fail(EFBIG);
  if (offset >= inode.size()) return fail(EINVAL);
  const auto handle = volume_.journal().start(credits::of_map);
  // First, or what moves would lie behind the end.
  const std::uint64_t size = inode.size();
  inode.set_size(size + length);
  const auto done =
      metadata_.extents.insert_hole(inode, offset >> bits, length >> bits, ExtentMap::Handles::kSeveral);
  if (!done && (done.error() == Errno(EINVAL) || done.error() == Errno(ENOSPC))) inode.set_size(size);
  const auto written = metadata_.inodes.write(inode);
  return done ? written : done;
}

Result<void> FileData::zero_edges(InodeNumber number, std::uint64_t offset, std::uint64_t end) {
  if (data_is_callers_) return {};
  const std::uint64_t block = volume_.block_size();
  std::vector<ByteRange> edges;  // of the file, then of the device
  const std::uint64_t begin_of_last = end & ~(block - 1);
  if (offset % block != 0) edges.push_back({offset, std::min(end, round_up(offset, block)) - offset});
  if (end != begin_of_last && (begin_of_last > offset || offset % block == 0))
    edges.push_back({begin_of_last, end - begin_of_last});
  if (edges.empty()) return {};
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    for (ByteRange& edge : edges) {
      ASSIGN_OR_RETURN(const auto parts,
                       metadata_.extents.map(inode, edge.offset >> volume_.block_bits(), 1));
      if (parts.empty() || parts[0].kind != Mapping::Kind::kWritten)
        edge.length = 0;  // zeros already
      else
        edge.offset = (parts[0].physical << volume_.block_bits()) + (edge.offset & (block - 1));
    }
  }
  for (const ByteRange& edge : edges) {
    if (const auto written = write_zeros(edge.offset, edge.length); !written) {
      volume_.device_failed(
          fmt::format("file data could not be written: {}, inode {}, block {}", written.error().message(),
                      number, edge.offset >> volume_.block_bits()),
          {.inode = number, .block = edge.offset >> volume_.block_bits(), .error = written.error().value()});
      return written;
    }
  }
  return {};
}

Result<void> FileData::allocate(InodeNumber number, std::uint64_t first, std::uint64_t end,
                                std::optional<Caller> caller) {
  for (bool again = false; first < end; again = true) {
    if (again) let_others_in();
    const auto held = metadata_.inodes.lock(number);
    RETURN_IF_ERROR(volume_.check_writable());
    ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
    inode.caller = caller;
    inode.found_in_use = held.blocks_checked();
    const auto handle = volume_.journal().start(credits::of_map);
    Result<void> done;
    for (int run = 0; done && first < end && run < kRunsAtOnce; ++run)
      done = filler_.allocate_unwritten(inode, first, std::min(end - first, kLongestRun));
    if (inode.found_in_use) held.set_blocks_checked(true);
    // What was allocated stays, whatever comes next.
    const auto written = metadata_.inodes.write(inode);
    RETURN_IF_ERROR(done);
    RETURN_IF_ERROR(written);
  }
  return {};
}

Result<std::uint64_t> FileData::seek(InodeNumber number, std::uint64_t offset, SeekTarget target) {
  const unsigned bits = volume_.block_bits();
  std::uint64_t block = offset >> bits;
  // The next change is usually near; where it is not, larger steps.
  for (std::uint64_t most = 32;; most = std::min(most * 2, kBlocksAtOnce)) {
    const auto held = metadata_.inodes.lock_shared(number);
    RETURN_IF_ERROR(volume_.check_alive());
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
    RETURN_IF_ERROR(must_be_file(inode));
    if (offset >= inode.size()) return fail(ENXIO);
    if (inode.has(EXT4_INLINE_DATA_FL)) return target == SeekTarget::kData ? offset : inode.size();
    const std::uint64_t behind = volume_.blocks_for(inode.size());
    if (block >= behind) {
      if (target == SeekTarget::kData) return fail(ENXIO);
      return inode.size();
    }
    ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, block, std::min(behind - block, most)));
    for (const Mapping& part : parts) {
      const bool data = part.kind == Mapping::Kind::kWritten;
      if (data == (target == SeekTarget::kData))
        return std::min(std::max(offset, part.logical << bits), inode.size());
    }
    // Beyond what a map can hold is a hole.
    block = parts.empty() ? behind : parts.back().logical + parts.back().count;
  }
}

// One claim at a time, so two copies in opposite directions cannot wait for each other; as with the kernel's
// own copy, which reads and writes as well, somebody else's write may come between.
Result<std::uint64_t> FileData::copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                           std::uint64_t to_offset, std::uint64_t length,
                                           AttributeChanges::Privileges privileges) {
  length = std::min(length, kLongestCopy);
  if (from_offset > INT64_MAX - length || to_offset > INT64_MAX - length) return fail(EOVERFLOW);
  if (from == to && from_offset < to_offset + length && to_offset < from_offset + length) return fail(EINVAL);
  RETURN_IF_ERROR(volume_.check_writable());
  {
    const auto held = metadata_.inodes.lock_shared(from);
    ASSIGN_OR_RETURN(const Inode source, metadata_.inodes.read(held));
    RETURN_IF_ERROR(must_be_file(source));
  }
  {
    const auto held = metadata_.inodes.lock_shared(to);
    ASSIGN_OR_RETURN(const Inode target, metadata_.inodes.read(held));
    RETURN_IF_ERROR(must_be_file(target));
    if (target.has(EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) return fail(EPERM);
    const std::uint64_t limit = size_limit(target);
    if (to_offset >= limit) return fail(EFBIG);
    length = std::min(length, limit - to_offset);
  }
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  const std::unique_ptr<std::byte, Free> memory(
      static_cast<std::byte*>(std::aligned_alloc(kPage, kCopyPiece + kPage)));
  if (!memory) return fail(ENOMEM);
  std::uint64_t done = 0;
  while (done < length) {
    // The memory lies in its page as the target does, and pieces end where pages do: then the writes, and the
    // reads where both files are alike, go past the page cache.
    const std::uint64_t inside = (to_offset + done) & (kPage - 1);
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(length - done, kCopyPiece - inside));
    const std::span bytes(memory.get() + inside, want);
    const auto got = read(from, from_offset + done, bytes, AccessTime::kUpdate);
    if (got && *got == 0) break;
    const auto copied = got ? write(to, to_offset + done, bytes.first(*got), privileges) : fail(got.error());
    if (!copied) {
      // As with write(2): what was done counts, and the error comes again if it stays.
      if (done != 0) break;
      return fail(copied.error());
    }
    done += *got;
  }
  return done;
}

}  // namespace fuse4fs::ext4
