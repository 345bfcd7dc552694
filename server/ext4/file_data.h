// SPDX-License-Identifier: GPL-2.0-or-later
// The bytes of regular files: reading, writing, cutting.
//
// A request claims its bytes, asks the metadata where they lie, lets the metadata go, and only then touches
// the device. New blocks are taken first, filled, and mapped last: nobody ever sees what they held before,
// and when the device fails there is nothing to undo in the map.
//
// Locking: any thread, holding nothing. Takes claims (rank 20), then the metadata lock, never across I/O of
// data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "server/ext4/access_times.h"
#include "server/ext4/metadata.h"
#include "server/ext4/range_claims.h"

namespace fuse4fs::ext4 {

class FileData {
 public:
  FileData(Volume& volume, GuardedMetadata& metadata, const AccessTimePolicy& access_times,
           MountOptions::ContentTimes content_times)
      : volume_(volume), metadata_(metadata), access_times_(access_times), content_times_(content_times) {}

  Result<std::size_t> read(InodeNumber number, std::uint64_t offset, std::span<std::byte> into,
                           AccessTime access_time);
  Result<SectorCounts> write(InodeNumber number, std::uint64_t offset, std::span<const std::byte> from,
                             AttributeChanges::Privileges privileges);

  // What FileSystem says of them: file_ranges.cc.
  Result<void> change_range(InodeNumber number, RangeChange change, ByteRange range, EndOfFile end_of_file,
                            AttributeChanges::Privileges privileges);
  Result<std::uint64_t> seek(InodeNumber number, std::uint64_t offset, SeekTarget target);
  Result<std::uint64_t> copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                   std::uint64_t to_offset, std::uint64_t length,
                                   AttributeChanges::Privileges privileges);

  // Holds all who use bytes from `size` on off a file while its size is set.
  RangeClaims::Claim claim_from(InodeNumber number, std::uint64_t size);
  // Sets the size of `inode`, which the caller has read under `metadata` while holding claim_from(). The
  // caller writes the inode.
  Result<void> resize(Metadata& metadata, Inode& inode, std::uint64_t size);

 private:
  // A stretch of a write. `fresh` clusters were taken for it and are not mapped yet.
  struct Piece {
    Mapping where;
    std::uint64_t fresh = 0;
    BlockRun taken;
    bool mapped = true;
  };

  static Result<void> must_be_file(const Inode& inode);
  Result<std::vector<Piece>> plan(Metadata& metadata, Inode& inode, std::uint64_t first, std::uint64_t count);
  Result<void> fill_hole(Metadata& metadata, Inode& inode, Mapping hole, std::vector<Piece>& pieces);
  static void abandon(Metadata& metadata, InodeNumber number, const std::vector<Piece>& pieces);
  Result<void> transfer(const std::vector<Piece>& pieces, std::uint64_t offset,
                        std::span<const std::byte> from);
  Result<void> commit(Metadata& metadata, Inode& inode, std::vector<Piece>& pieces);
  Result<void> read_parts(const std::vector<Mapping>& parts, std::uint64_t offset, std::span<std::byte> into);
  // Content that lies inside the inode moves to a block.
  Result<void> leave_inode(Metadata& metadata, Inode& inode);
  // What a change of content does to the rest of the inode. The caller writes it.
  Result<void> note_change(Metadata& metadata, Inode& inode, AttributeChanges::Privileges privileges);
  Result<void> punch(InodeNumber number, std::uint64_t offset, std::uint64_t end);
  Result<void> allocate(InodeNumber number, std::uint64_t first, std::uint64_t end);
  Result<void> allocate_run(Metadata& metadata, Inode& inode, std::uint64_t& first, std::uint64_t count);
  // Zeros in what the range covers of its first and last block, if not all.
  Result<void> zero_edges(InodeNumber number, std::uint64_t offset, std::uint64_t end);
  // `step` a part of the blocks at a time, so that others come between.
  template <class Step>
  Result<void> in_parts(InodeNumber number, std::uint64_t first, std::uint64_t end, Step step);
  Result<void> must_repeat(Metadata& metadata, const Inode& inode, std::uint64_t offset,
                           std::span<const std::byte> from);
  Result<void> zero_tail(Metadata& metadata, const Inode& inode, std::uint64_t from, std::uint64_t to);
  Result<void> write_zeros(std::uint64_t device_offset, std::uint64_t length);
  Result<void> write_bytes(std::uint64_t device_offset, std::span<const std::byte> from);
  Result<void> read_bytes(std::uint64_t device_offset, std::span<std::byte> into);
  // That no file of this volume can reach, and this file.
  [[nodiscard]] std::uint64_t volume_size_limit() const;
  [[nodiscard]] std::uint64_t size_limit(Metadata& metadata, const Inode& inode) const;

  Volume& volume_;
  GuardedMetadata& metadata_;
  const AccessTimePolicy& access_times_;
  const MountOptions::ContentTimes content_times_;
  RangeClaims claims_;
};

}  // namespace fuse4fs::ext4
