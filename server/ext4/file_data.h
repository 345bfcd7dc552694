// SPDX-License-Identifier: GPL-2.0-or-later
// The bytes of regular files: reading, writing, cutting.
//
// A request claims its bytes, asks under the inode's lock where they lie, lets go, and only then touches the
// device. New blocks are taken first, filled, and mapped last: nobody ever sees what they held before, and
// when the device fails there is nothing to undo in the map.
//
// Locking: any thread, holding nothing. Takes claims (rank 20), then the inode's lock: shared to find blocks
// and to take fresh ones, exclusive to map them. Never across I/O of data. While a claim is held, what it
// covers of the map stays, and so does the file's end if it lies behind the claim's begin and the claim has
// no end.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "server/ext4/access_times.h"
#include "server/ext4/hole_filler.h"
#include "server/ext4/metadata.h"
#include "server/ext4/range_claims.h"

namespace fuse4fs::ext4 {

class FileData {
 public:
  FileData(Volume& volume, Metadata& metadata, const AccessTimePolicy& access_times,
           MountOptions::ContentTimes content_times)
      : volume_(volume),
        metadata_(metadata),
        filler_(volume, metadata),
        access_times_(access_times),
        content_times_(content_times) {}

  void set_content_times(MountOptions::ContentTimes times) { content_times_ = times; }

  Result<std::size_t> read(InodeNumber number, std::uint64_t offset, std::span<std::byte> into,
                           AccessTime access_time);
  Result<SectorCounts> write(InodeNumber number, std::uint64_t offset, std::span<const std::byte> from,
                             AttributeChanges::Privileges privileges);

  // What FileSystem says of them: file_ranges.cc.
  // What change_range() refuses before it changes anything: EINVAL, EPERM, EFBIG.
  [[nodiscard]] Result<void> may_change_range(const Inode& inode, RangeChange change, ByteRange range) const;
  Result<void> change_range(InodeNumber number, RangeChange change, ByteRange range, EndOfFile end_of_file,
                            AttributeChanges::Privileges privileges, std::optional<Caller> caller);
  Result<std::uint64_t> seek(InodeNumber number, std::uint64_t offset, SeekTarget target);
  Result<std::uint64_t> copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                   std::uint64_t to_offset, std::uint64_t length,
                                   AttributeChanges::Privileges privileges);

  // Bytes of the device that become visible when a file's size changes, and must be zeros before.
  struct Tail {
    InodeNumber inode = 0;
    std::uint64_t offset = 0;  // bytes
    std::uint64_t length = 0;  // 0: none
  };
  // To set a size. First of all: holds all who use bytes from the smaller one on, of the sizes it has and
  // gets.
  Result<RangeClaims::Claim> claim_for_size(InodeNumber number, std::uint64_t size);
  // Then, under the inode's lock: whether it can have that size, and what must be zeros.
  Result<Tail> tail_for_size(const Inode& inode, std::uint64_t size);
  // Then, under none.
  Result<void> clear(const Tail& tail);
  // And last, under its exclusive lock and a handle. The caller writes the inode.
  Result<void> resize(Inode& inode, std::uint64_t size);

  // Content that lies inside the inode moves to a block. Exclusive lock and a handle.
  Result<void> leave_inode(Inode& inode);
  static Result<void> must_be_file(const Inode& inode);
  // That no file of this volume can reach, and this file. Bytes.
  [[nodiscard]] std::uint64_t volume_size_limit() const;
  [[nodiscard]] std::uint64_t size_limit(const Inode& inode) const;

  // From now on the data is the mappings' caller's to move (mapping_service.h): what becomes visible of a
  // block he makes zeros himself.
  void leave_data_to_caller() { data_is_callers_ = true; }

 private:
  using Piece = HoleFiller::Piece;
  // One write() on its way.
  struct Write {
    InodeNumber number;
    std::uint64_t offset, end;  // bytes
    std::span<const std::byte> from;
    AttributeChanges::Privileges privileges;
    std::uint64_t claimed_from;
    bool compared = false;  // what an append-only file has there already
    // Found by plan_write().
    std::uint64_t size = 0;             // before
    std::uint64_t sectors = 0;          // before
    std::vector<Mapping> there = {};    // kCompare
    std::vector<std::byte> bytes = {};  // kCompare, of a file inside its inode
    Tail tail = {};
    std::vector<Piece> pieces = {};
  };
  // What has to be done before the pieces of a write are known; kReady: nothing.
  enum class Before { kReady, kClaimMore, kCompare, kLeaveInode };

  Result<Before> plan_write(Write& write);
  Result<SectorCounts> finish_write(Write& write);
  // `ahead`: blocks that the file will probably want behind these.
  Result<std::vector<Piece>> plan(Inode& inode, std::uint64_t first, std::uint64_t count,
                                  std::uint64_t ahead);
  [[nodiscard]] std::uint64_t wanted_ahead(const Write& write) const;
  Result<void> transfer(const Write& write);
  // Sets the size, too.
  Result<void> commit(Inode& inode, Write& write);
  Result<void> read_parts(const std::vector<Mapping>& parts, std::uint64_t offset, std::span<std::byte> into);
  Result<void> leave_inode(InodeNumber number);
  // What a change of content does to the rest of the inode. The caller writes it.
  Result<void> note_change(Inode& inode, AttributeChanges::Privileges privileges);
  Result<void> punch(InodeNumber number, std::uint64_t offset, std::uint64_t end);
  Result<void> collapse(InodeNumber number, std::uint64_t offset, std::uint64_t end);
  Result<void> insert(InodeNumber number, std::uint64_t offset, std::uint64_t length);
  Result<void> allocate(InodeNumber number, std::uint64_t first, std::uint64_t end,
                        std::optional<Caller> caller);
  // Zeros in what the range covers of its first and last block, if not all.
  Result<void> zero_edges(InodeNumber number, std::uint64_t offset, std::uint64_t end);
  Result<void> grow(InodeNumber number, std::uint64_t size);
  // `step` a part of the blocks at a time, so that others come between.
  template <class Step>
  Result<void> in_parts(InodeNumber number, std::uint64_t first, std::uint64_t end, Step step);
  Result<void> must_repeat(const Write& write);
  // What lies between two sizes in the block of the smaller one.
  Result<Tail> tail_between(const Inode& inode, std::uint64_t from, std::uint64_t to);
  // Less than a block, as a rule.
  Result<void> write_zeros(std::uint64_t device_offset, std::uint64_t length) {
    return volume_.device().write_zeros(cache::IoPath::kPageCache, device_offset, length);
  }
  Result<void> write_bytes(std::uint64_t device_offset, std::span<const std::byte> from);
  Result<void> read_bytes(std::uint64_t device_offset, std::span<std::byte> into);

  Volume& volume_;
  Metadata& metadata_;
  HoleFiller filler_;
  const AccessTimePolicy& access_times_;
  MountOptions::ContentTimes content_times_;
  RangeClaims claims_;
  std::atomic<bool> data_is_callers_ = false;
};

}  // namespace fuse4fs::ext4
