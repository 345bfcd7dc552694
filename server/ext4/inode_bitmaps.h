// SPDX-License-Identifier: GPL-2.0-or-later
// Which inode numbers are in use: a bit of their group's bitmap each, and the figures of the groups with
// them.
//
// Where a group's bitmap cannot be read or is damaged (group_bitmaps.h) its inodes are taken to be in use,
// for nothing is taken from it: what is in their places is judged anyway.
//
// Locking: any thread; takes its group's lock (rank kGroup), in_use() shared. Errors: EUCLEAN for what
// is given back though it is free, or taken though it is in use; of a bitmap: told already.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "server/ext4/file_system.h"
#include "server/ext4/group_bitmaps.h"
#include "server/ext4/group_descriptors.h"

namespace fuse4fs::ext4 {

class Volume;

class InodeBitmaps {
 public:
  using What = GroupDescriptors::What;

  // Both outlive it.
  InodeBitmaps(Volume& volume, GroupDescriptors& groups);

  [[nodiscard]] bool in_use(InodeNumber number);
  // The lowest of the group that files may have and that nothing keeps from being given out; 0 if there is
  // none.
  Result<InodeNumber> take_lowest(GroupNumber group, What what);
  Result<void> take(InodeNumber number, What what);
  Result<void> give_back(InodeNumber number, What what);

  // The next in use from `from` on; 0 if there is none.
  Result<InodeNumber> next_in_use(InodeNumber from);
  Result<std::uint32_t> count_free(GroupNumber group);
  // Whether it knows of inodes in blocks of the table that the descriptor says were never used.
  Result<bool> uses_unused(GroupNumber group);

  [[nodiscard]] GroupNumber group_of(InodeNumber number) const { return (number - 1) / per_group_; }
  [[nodiscard]] GroupBitmaps& blocks() { return blocks_; }

 private:
  [[nodiscard]] std::uint32_t index_of(InodeNumber number) const { return (number - 1) % per_group_; }
  [[nodiscard]] InodeNumber number_of(GroupNumber group, std::uint32_t index) const {
    return group * per_group_ + index + 1;
  }
  // One that is to be changed.
  Result<cache::Buffer*> open(GroupNumber group);
  // Before the inode in this place is taken: the block of the table that it lies in, if it is the first
  // there.
  Result<void> begin_table_block(GroupNumber group, const cache::Buffer& bitmap, std::uint32_t index);
  Result<void> clear_table_from(GroupNumber group, std::uint32_t block);
  Result<void> mark_taken(GroupNumber group, cache::Buffer& buffer, std::uint32_t index, What what);

  Volume& volume_;
  GroupDescriptors& groups_;
  const std::uint32_t per_group_;
  const InodeNumber first_;  // that a file may have
  GroupBitmaps blocks_;
  // By group, under its lock: all before this place are in use.
  std::vector<std::uint32_t> first_free_;
  // Likewise, of a table that mke2fs left as it was: the blocks before this one hold inodes, or zeros by now.
  static constexpr std::uint32_t kClearedAtOnce = 16;
  std::vector<std::uint32_t> cleared_blocks_;
};

}  // namespace fuse4fs::ext4
