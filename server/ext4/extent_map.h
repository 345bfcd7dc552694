// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks of the volume hold which blocks of a file: extent trees and indirect blocks behind one face.
//
// Look-ups check all they read; a node of an extent tree once, when it comes into the cache. A change trusts
// more: the whole map is checked once before the first one (the inode table remembers it).
//
// Locking: any thread that holds the inode's lock: shared for look-ups, exclusive for changes.
// Errors: EUCLEAN (told already), ENOSPC, EFBIG.
// Changes write the inode's map and block count by themselves; the caller writes what else it changed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/extent_node.h"
#include "server/ext4/inode.h"
#include "server/ext4/mapping.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class ExtentTree;

class ExtentMap {
 public:
  ExtentMap(Volume& volume, BlockAllocator& blocks) : volume_(volume), blocks_(blocks) {}

  // An inode without blocks starts with this.
  void initialise(Inode& inode);

  // The range without gaps, in order, neighbours of one kind joined.
  Result<std::vector<Mapping>> map(const Inode& inode, std::uint64_t first, std::uint64_t count);
  // What `logical` lies in, from there on: one extent or its rest, or a hole to the next one.
  Result<Mapping> find(const Inode& inode, std::uint64_t logical);
  // The same, from the extent's beginning on.
  Result<Mapping> find_whole(const Inode& inode, std::uint64_t logical);
  // The first block that no map of this inode's form can hold.
  [[nodiscard]] std::uint64_t block_limit(const Inode& inode) const;

  // Walks the whole map and says whether it can be changed.
  Result<void> check(const Inode& inode);

  // Removing and converting may be long. Where the log has no room for the rest of it, or one handle has gone
  // on for long enough (LongWork), they go on in this handle all the same, or make the inode fit what was
  // done, write it, and begin another: then nothing else that the caller has begun may be unfinished. A
  // write-back may come between, and does where too much waits for one.
  enum class Handles { kOne, kSeveral };
  // What one handle of several does at most, whatever the log has room for: a write-back waits for its end,
  // and everybody for the write-back.
  struct LongWork {
    static constexpr unsigned kExtents = 1024;
    static constexpr std::uint64_t kIndirect = 8;  // indirect blocks, each with all that hangs on it
    // Changed blocks of metadata, before the last step (credits::of_map).
    static constexpr std::size_t kBlocks = 256;
  };

  // Maps a hole to blocks: to ones that hold its data already, or (with extents) that count as zeros. All of
  // it, or where that fails nothing: then the blocks are still the caller's.
  Result<void> insert(Inode& inode, std::uint64_t logical, std::uint64_t physical, std::uint64_t count,
                      Mapping::Kind kind = Mapping::Kind::kWritten);
  // What is mapped in the range becomes `kind`, kWritten or kUnwritten. With extents only.
  Result<void> convert(Inode& inode, std::uint64_t first, std::uint64_t count, Mapping::Kind kind,
                       Handles handles = Handles::kOne);
  // Unmaps and frees all from `first` on, the end first. Between two handles the inode on the volume has a
  // size that what is left of its map allows, as if it had been cut step by step.
  Result<void> truncate(Inode& inode, std::uint64_t first, Handles handles = Handles::kOne);
  // Unmaps and frees the range.
  Result<void> remove(Inode& inode, std::uint64_t first, std::uint64_t count,
                      Handles handles = Handles::kOne);

  // What is mapped behind the range, which is a hole, moves to its beginning. With extents only.
  Result<void> collapse(Inode& inode, std::uint64_t first, std::uint64_t count,
                        Handles handles = Handles::kOne);
  // What is mapped from `first` on moves so many blocks away, and leaves a hole. EINVAL where a map cannot
  // reach so far; nothing is done then, nor where there is no room for a node. With extents only.
  Result<void> insert_hole(Inode& inode, std::uint64_t first, std::uint64_t count,
                           Handles handles = Handles::kOne);

  // With clusters: where `logical` must lie because a neighbour in its cluster is mapped; 0 if none is.
  Result<std::uint64_t> implied_block(const Inode& inode, std::uint64_t logical);
  // Blocks were just taken for `logical`. EUCLEAN, told, where they, or others of the same leaf of the map or
  // the block of attributes, are the inode's already: then a bitmap is damaged, and nothing is taken any more
  // from its group, and they are given back. A leaf is compared with the bitmaps once, as long as it is in
  // memory.
  Result<void> check_taken(Inode& inode, std::uint64_t logical, BlockRun taken);
  // The file's share of the volume grew.
  Result<void> add_blocks(Inode& inode, std::uint64_t clusters);
  // Where a block that it gets here should be: near its neighbours (which may be in use, or none of a
  // file's); the first one at the beginning of the inode's (flex) group (Volume::goal_of).
  std::uint64_t goal_for(const Inode& inode, std::uint64_t logical);

 private:
  Result<void> judge_taken(Inode& inode, std::uint64_t logical, BlockRun taken);
  Result<void> check_extents_of(Inode& inode, std::uint64_t logical, BlockRun taken);
  Result<void> check_pointers_of(Inode& inode, std::uint64_t logical, BlockRun taken);
  Result<void> must_be_used(const Inode& inode, BlockRun run);
  std::optional<Mapping> extent_near(const Inode& inode, std::uint64_t logical);
  // The extent that it lies in, as a whole, or the hole from there on.
  Result<Mapping> search_extents(const Inode& inode, std::uint64_t logical);
  Result<Mapping> find_extent(const Inode& inode, std::uint64_t logical);
  Result<Mapping> find_indirect(const Inode& inode, std::uint64_t logical);
  Result<void> check_node(const Inode& inode, const ExtentNode& node, std::uint64_t block,
                          std::uint64_t begin, std::uint64_t end, std::uint64_t& budget);
  Result<void> check_indirect(const Inode& inode, std::uint32_t block, int level, std::uint64_t& budget);
  Result<void> truncate_extents(Inode& inode, std::uint64_t first, Handles handles);
  // `freed` counts clusters that the inode still counts.
  Result<void> cut_end(Inode& inode, std::uint64_t first, Handles handles, std::uint64_t& freed);
  Result<void> remove_extents(Inode& inode, std::uint64_t first, std::uint64_t end, Handles handles,
                              std::uint64_t& freed);
  Result<void> convert_extents(Inode& inode, std::uint64_t first, std::uint64_t end, Mapping::Kind kind,
                               Handles handles);
  // Whether another extent is this handle's, the next of so many.
  [[nodiscard]] bool goes_on(Handles handles, unsigned& extents);
  Result<void> shift_left(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles);
  Result<void> shift_right(Inode& inode, std::uint64_t first, std::uint64_t count, Handles handles);
  // Another handle. Until `end` the file is what it was.
  Result<void> begin_anew(Inode& inode, std::uint64_t end, std::uint64_t& freed);
  // `mapped` counts the blocks that are, also where it fails.
  Result<void> insert_extents(Inode& inode, Mapping extents, std::uint64_t& mapped);
  // Makes a hole of what is mapped there, and frees nothing. Of extents: a part of one.
  Result<void> unmap(Inode& inode, std::uint64_t first, std::uint64_t end);
  static Result<void> take_out(ExtentTree& tree, std::uint64_t first, std::uint64_t end);
  Result<void> unmap_indirect(Inode& inode, std::uint64_t logical);
  // The map and the count of blocks, and nothing behind the fields that all inodes have; also where `done`
  // is a failure, for what was done before it.
  Result<void> write_map(const Inode& inode, Result<void> done);
  // From the inode to a block: through `level` indirect blocks.
  struct IndirectWay {
    std::size_t level = 0;
    std::array<std::size_t, 4> slots{};  // in i_block, then in each indirect block
  };
  static std::optional<IndirectWay> indirect_way(std::uint64_t logical, std::uint64_t per_block);
  Result<void> insert_indirect(Inode& inode, std::uint64_t logical, std::uint64_t physical);
  Result<std::uint32_t> add_indirect(Inode& inode, std::uint64_t goal);
  struct Cut;
  Result<void> remove_indirect(Inode& inode, std::uint64_t first, std::uint64_t end, Handles handles,
                               std::uint64_t& freed);
  // From its end on; of at most so many lowest indirect blocks. Answers what of it is left to be cut: up to
  // there.
  Result<std::uint64_t> cut_indirect(Inode& inode, std::uint64_t first, std::uint64_t end, std::uint64_t most,
                                     std::uint64_t& freed);
  Result<void> cut_indirect(const Inode& inode, Cut& cut, std::uint32_t& pointer, int level,
                            std::uint64_t begin);
  Result<void> give_back(const Inode& inode, BlockRun run);
  Result<std::uint64_t> free_extent(Inode& inode, std::uint64_t logical, std::uint64_t physical,
                                    std::uint64_t count, Result<void>& lost);

  Volume& volume_;
  BlockAllocator& blocks_;
};

}  // namespace fuse4fs::ext4
