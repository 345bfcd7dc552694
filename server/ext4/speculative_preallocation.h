// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks that a file is given before it needs them, so that the caller who moves its data (mapping_service.h)
// need not ask at each write, and that neighbours in the file are neighbours on the device. They are
// unwritten, and lie ahead of a file that grows, behind its end, or beside a write in a hole.
//
// What is not used is taken back: when the file is cut or forgotten, when nobody asked for it for a while,
// and at the unmount; what lies behind the end also when there is no room for others. In a hole only the
// caller knows what its pages are about to be written to, so that waits. The caller may be moving data there
// by a mapping that it was given before, without a word until it is done. So it is told to forget it a while
// before (preallocated_blocks.h), and of files that are written directly, where no page tells of what is
// under way, nothing is taken back but where the caller has stopped: with the file's cut, its end, the
// unmount, or a write far behind it, which is alone.
//
// Locking: any thread. What takes an Inode or an InodeTable::Exclusive is called under the inode's lock,
// exclusive (unused_sectors(): or shared); the others hold nothing. Errors: as ExtentMap.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "base/result.h"
#include "server/ext4/mapped_files.h"
#include "server/ext4/mapping_service.h"
#include "server/ext4/metadata.h"
#include "server/ext4/preallocated_blocks.h"

namespace fuse4fs::ext4 {

class SpeculativePreallocation {
 public:
  SpeculativePreallocation(Volume& volume, Metadata& metadata, MappedFiles& files, PreallocatedBlocks& given)
      : volume_(volume), metadata_(metadata), files_(files), given_(given) {}
  void set_cache(MappingCache& cache) { cache_ = &cache; }

  struct Blocks {
    std::uint64_t first = 0, end = 0;
  };
  // What is to be allocated for a write that needs these: more behind them, if it moves the end of the file,
  // or around them, in a hole within it.
  [[nodiscard]] Blocks blocks_for(const Inode& inode, const MappingRequest& request, Blocks needed);
  // They were: what is more than was needed may be taken back; where the write turns out to be short, also
  // what was needed of it from `floor` on.
  void note_given(const Inode& inode, Blocks given, Blocks needed, std::uint64_t floor);
  // A write by pages from this block on was begun, which may lie far behind what it was expected at: that was
  // given for nothing. Where it lies behind the file's end it is alone, and what it has done so far is known
  // by the size. With a handle; the caller writes the inode.
  Result<void> leave_behind(Inode& inode, std::uint64_t first);
  // Unmaps what was not used.
  Result<void> trim(const InodeTable::Exclusive& held);
  // What the file has of it, and would not have if nothing had been given.
  [[nodiscard]] std::uint64_t unused_sectors(const Inode& inode);

  // Some seconds are over.
  void age();
  // A change found no room. Whether there may be more now, at the latest after a write-back. May take a
  // second, or what is left of the one of who does it just then.
  bool give_back_for_room();
  // The caller is gone.
  void give_back_all();

 private:
  // What of the blocks that it was given the file does not reach.
  struct Unused {
    std::uint64_t first = 0, count = 0;  // blocks
  };
  [[nodiscard]] std::uint64_t end_ahead(const Inode& inode, const MappingRequest& request, Blocks needed);
  [[nodiscard]] Blocks blocks_in_hole(const Inode& inode, const MappingRequest& request, Blocks needed);
  [[nodiscard]] Unused unused_of(const Inode& inode);
  // The caller is to come and ask again. Whether something leaves now.
  bool take_mappings_back(InodeNumber number, PreallocatedBlocks::Why why);
  void take_mappings_beside_back(InodeNumber number);
  bool look_for_room();
  // From this block on. How many were unmapped.
  Result<std::uint64_t> trim_ahead(const InodeTable::Exclusive& held, std::uint64_t from);
  Result<void> trim_beside(const InodeTable::Exclusive& held, const BlockRuns& beside);
  Result<void> remove_beside(Inode& inode, const BlockRuns& beside);

  Volume& volume_;
  Metadata& metadata_;
  MappedFiles& files_;
  PreallocatedBlocks& given_;
  std::atomic<MappingCache*> cache_ = nullptr;
  RankedMutex<std::mutex, LockRank::kRoom> room_;
  std::atomic<std::uint64_t> rounds_for_room_ = 0;
  bool last_round_found_room_ = false;  // under room_
};

}  // namespace fuse4fs::ext4
