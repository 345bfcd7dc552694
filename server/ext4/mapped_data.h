// SPDX-License-Identifier: GPL-2.0-or-later
// Where the data of regular files lies, for a caller that moves it itself (mapping_service.h).
//
// What is written into a hole is allocated unwritten, so that nobody sees what the blocks held before; it
// becomes written, and the file longer, when its data is on the device. Files that grow are given more than
// they ask for, and what they do not use is taken back: when they are cut, forgotten, or idle.
//
// Locking: any thread, holding nothing. Takes the inode's lock: shared to look, exclusive to change. A
// mapping is handed to the caller's cache under that lock, and may be taken back under it. Errors: as
// FileSystem.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/result.h"
#include "server/ext4/file_data.h"
#include "server/ext4/hole_filler.h"
#include "server/ext4/mapped_files.h"
#include "server/ext4/mapping_read_ahead.h"
#include "server/ext4/mapping_service.h"
#include "server/ext4/metadata.h"
#include "server/ext4/preallocated_blocks.h"
#include "server/ext4/speculative_preallocation.h"

namespace fuse4fs::ext4 {

class MappedData {
 public:
  // `clock`: by which what nobody uses is taken back.
  MappedData(Volume& volume, Metadata& metadata, FileData& data, PreallocatedBlocks::Clock clock)
      : volume_(volume),
        metadata_(metadata),
        data_(data),
        filler_(volume, metadata),
        given_(std::move(clock)),
        preallocation_(volume, metadata, files_, given_) {}

  // What MappingService says of them, but for what a full volume asks to be done.
  [[nodiscard]] MappingLimits limits() const;
  Result<DataMapping> map(InodeNumber number, const MappingRequest& request);
  Result<void> finish(InodeNumber number, const FinishedOperation& operation);
  Result<std::uint64_t> complete_write(InodeNumber number, const CompletedWrite& write);

  // What complete_write() came to in the end: the kernel tells nobody who only waits for its pages.
  void note_failed(InodeNumber number, const CompletedWrite& write, Errno error);

  void set_cache(MappingCache& cache) {
    preallocation_.set_cache(cache);
    cache_ = &cache;
  }
  // Whether the caller moves data at all.
  [[nodiscard]] bool is_used() const { return cache_ != nullptr; }

  // All that the caller has written of the file is on the device: what is known of it is true of the volume
  // now. Answers the error of a write that failed since the last time.
  Result<void> settle(InodeNumber number);
  // The same of all files; their errors are left to settle().
  Result<void> settle_all();
  // Of a write of any file that failed.
  [[nodiscard]] Result<void> any_error();
  // What the caller has reached in memory counts as the file's end from now on, whether or not it is on the
  // device: a range is to be changed, which may lie there. What was not written there reads as zeros.
  Result<void> show_size(InodeNumber number);
  // The file was given another size, or blocks, by request.
  void note_resized(InodeNumber number, std::uint64_t before, std::uint64_t size);
  // A range of the file is about to be changed so: what was given there before it was needed may be asked for
  // now, or go, or come to lie elsewhere.
  void note_range_change(InodeNumber number, RangeChange change, ByteRange range);
  // A new one.
  void note_made(InodeNumber number) {
    if (is_used()) forget(number);
  }
  // The caller may have forgotten the inode, with all mappings of it.
  void note_forgotten(InodeNumber number);
  // Blocks that files were given before they need them.
  SpeculativePreallocation& preallocation() { return preallocation_; }

 private:
  using Blocks = SpeculativePreallocation::Blocks;

  [[nodiscard]] DataMapping to_bytes(const Mapping& mapping, InodeNumber number) const;
  [[nodiscard]] static Result<void> must_be_known(const InodeTable::Held& held);
  [[nodiscard]] DataMapping hole_at(const Inode& inode, std::uint64_t offset, MappingPurpose purpose) const;
  [[nodiscard]] Result<void> must_be_one_block(const MappingRequest& request) const;
  [[nodiscard]] bool will_have_extents(const Inode& inode) const;
  Result<DataMapping> look(const Inode& inode, const MappingRequest& request);
  Result<DataMapping> allocate(InodeNumber number, const MappingRequest& request);
  Result<std::uint64_t> first_given(const Inode& inode, std::uint64_t first, std::uint64_t needed);
  [[nodiscard]] bool must_be_reported(const Inode& inode, const MappingRequest& request,
                                      const DataMapping& found);
  // All that is to be given, or where there is no room for it, what is needed; which it was is said in
  // `given`.
  Result<void> fill_more(Inode& inode, Blocks& given, Blocks needed);
  Result<void> fill(Inode& inode, std::uint64_t first, std::uint64_t end);
  Result<void> fill_indirect(Inode& inode, std::uint64_t first, std::uint64_t end);
  Result<void> clear(const Mapping& blocks);
  [[nodiscard]] std::uint64_t end_to_remember(const Inode& inode, const DataMapping& mapping);
  void hand_over(const Inode& inode, const MappingRequest& request, DataMapping& mapping);
  void answer(const Inode& inode, const MappingRequest& request, DataMapping& mapping);
  void begin_at(DataMapping& mapping, std::uint64_t offset) const;
  bool remember(const Inode& inode, const MappingRequest& request, DataMapping& mapping);
  void forget(InodeNumber number);
  Result<DataMapping> hand_over_all(const Inode& inode, const MappingRequest& request, Blocks given);
  // What lies behind `found` and the caller will probably ask for next.
  void remember_next(const Inode& inode, const MappingRequest& request, const DataMapping& found);
  Result<void> remember_up_to(const Inode& inode, const MappingRequest& request, std::uint64_t at,
                              std::uint64_t end);
  Result<void> must_be_mapped(const Inode& inode, std::uint64_t first, std::uint64_t count);
  Result<void> set_size(const InodeTable::Exclusive& held, std::uint64_t size);
  // The size that was noted, for good.
  Result<void> take_size_over(const InodeTable::Exclusive& held);

  Volume& volume_;
  Metadata& metadata_;
  FileData& data_;
  HoleFiller filler_;
  MappedFiles files_;
  PreallocatedBlocks given_;
  SpeculativePreallocation preallocation_;
  MappingReadAhead read_ahead_;
  std::atomic<MappingCache*> cache_ = nullptr;
};

}  // namespace fuse4fs::ext4
