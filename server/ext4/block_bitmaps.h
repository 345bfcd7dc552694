// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks are in use: a bit of their group's bitmap for each cluster, and the figures of the groups with
// them.
//
// A bitmap in which the volume's own blocks are free is damaged (group_bitmaps.h): nothing is taken from it
// or given back to it. So is one in which a block is free that the cache has, for that is a directory's, a
// map's or one of attributes: what was freed is forgotten. One that was never written is made from where the
// volume's own blocks lie. Runs lie in one group.
//
// Runs are in blocks: whole clusters, but that the volume's last one may be cut short.
//
// Locking: any thread; takes its group's lock (rank kGroup). Errors: EUCLEAN and the
// device's, told already.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "server/ext4/file_system.h"
#include "server/ext4/group_bitmaps.h"
#include "server/ext4/group_descriptors.h"

namespace fuse4fs::ext4 {

class Volume;

struct BlockRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  [[nodiscard]] std::uint64_t end() const { return first + count; }
};

class BlockBitmaps {
 public:
  // Both outlive it.
  BlockBitmaps(Volume& volume, GroupDescriptors& groups);

  [[nodiscard]] Result<bool> in_use(std::uint64_t block);
  // The first block of the run, whatever groups it lies in, that is free.
  [[nodiscard]] Result<std::optional<std::uint64_t>> first_unused(BlockRun run);

  // What take_first() looks for, and what it saw on its way through groups.
  struct Search {
    std::uint64_t most = 0;    // blocks of a run that is long enough
    std::uint64_t wanted = 0;  // so many of them are taken, at most
    std::uint64_t kept = 0;    // blocks that are to stay free in the volume
    std::uint64_t goal = 0;    // a run that begins here need not be longer than what is wanted
    InodeNumber owner = 0;     // whose window is no obstacle (reservation_windows.h)
    int patience = 0;          // how many shorter runs are passed over
    BlockRun best = {};        // the longest of them
  };
  // Takes of the first run of `most` blocks in `where`, which lies in one group: or of an eighth of a group,
  // or one from its beginning to the group's end, to which the next group may be added. What cannot be had
  // yet (unreleased.h), or is left to others, is none. Empty: there is none, but perhaps a shorter one in
  // `search`.
  Result<BlockRun> take_first(BlockRun where, Search& search);
  // Takes the best of a search, or what is left of its beginning.
  Result<BlockRun> take_best(const Search& search);
  // Takes all that is free of the run.
  Result<std::vector<BlockRun>> take_free(BlockRun run);
  // Where some of it is free already, that is told as corruption of `owner`, and nothing is changed. What the
  // cache has of it goes. Under a handle.
  Result<void> give_back(BlockRun run, InodeNumber owner);
  // A block that `owner` has is free: the bitmap of its group is damaged. Told. Answers EUCLEAN.
  Errno distrust(std::uint64_t block, InodeNumber owner);
  // EUCLEAN, told, where some of it is free.
  Result<void> check_in_use(BlockRun run, InodeNumber owner);

  // The next free run in `where`, which lies in one group; empty if there is none. Under the group's lock.
  Result<BlockRun> next_free(BlockRun where);
  Result<std::uint32_t> count_free(GroupNumber group);
  // The first inode of a group begins this bitmap as well. Under the group's lock.
  Result<void> begin(GroupNumber group);

  [[nodiscard]] GroupNumber group_of(std::uint64_t block) const;
  [[nodiscard]] BlockRun blocks_of(GroupNumber group) const;
  // What of the run lies in the group of its first block.
  [[nodiscard]] BlockRun first_part(BlockRun run) const;
  [[nodiscard]] GroupBitmaps& blocks() { return blocks_; }

 private:
  [[nodiscard]] std::size_t bit_of(std::uint64_t block) const;
  [[nodiscard]] std::uint64_t block_of(GroupNumber group, std::size_t bit) const;
  [[nodiscard]] std::size_t behind(BlockRun run) const;  // the bit behind its last one
  // Calls `visit(group, part)` for what of the run lies in each group, until that fails.
  template <class Visit>
  Result<void> in_each_group(BlockRun run, const Visit& visit) const {
    for (const std::uint64_t end = run.end(); run.first < end;) {
      const BlockRun part = first_part({run.first, end - run.first});
      RETURN_IF_ERROR(visit(group_of(part.first), part));
      run.first = part.end();
    }
    return {};
  }
  Errno found_free(std::uint64_t block, InodeNumber owner);
  [[nodiscard]] std::size_t bits_of(GroupNumber group) const { return behind(blocks_of(group)); }
  void mark_own(GroupNumber group, std::span<std::byte> bytes) const;
  [[nodiscard]] bool has_own(GroupNumber group, std::span<const std::byte> bytes) const;
  // Its bits: those on the device, or those that it would begin with.
  using Look = std::function<void(std::span<const std::byte>)>;
  Result<void> look(GroupNumber group, const Look& see);
  // One that is to be changed.
  Result<cache::Buffer*> open(GroupNumber group);
  // The first part of a free run that `search` may have; it may be empty, at the run's end.
  [[nodiscard]] BlockRun usable_part(BlockRun free, const Search& search);
  Result<BlockRun> take_here(GroupNumber group, cache::Buffer& buffer, BlockRun run, std::uint64_t kept);

  Volume& volume_;
  GroupDescriptors& groups_;
  const unsigned cluster_bits_;
  const std::uint64_t first_block_, per_group_, end_;  // blocks
  GroupBitmaps blocks_;
};

}  // namespace fuse4fs::ext4
