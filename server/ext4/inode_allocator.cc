// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_allocator.h"

#include <sys/stat.h>

#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {

Result<InodeNumber> InodeAllocator::take(InodeNumber parent, mode_t mode) {
  const auto library = volume_.library();
  auto* const fs = volume_.fs();
  const bool spread = S_ISDIR(mode) && parent == kRootInode;
  ext2_ino_t number = 0;
  // The bitmap has the last word, but a full volume is known without looking.
  if (fs->super->s_free_inodes_count == 0) return fail(ENOSPC);
  RETURN_IF_ERROR(
      volume_.check(ext2fs_new_inode(fs, spread ? first_of_roomiest_group() : parent, mode, nullptr, &number),
                    parent, "looking for a free inode"));
  if (number < EXT2_FIRST_INODE(fs->super) || number > fs->super->s_inodes_count)
    return fail(volume_.corrupted(number, 0, "a reserved inode is marked free"));
  ext2fs_inode_alloc_stats2(fs, number, +1, S_ISDIR(mode) ? 1 : 0);
  return number;
}

void InodeAllocator::take_this(InodeNumber inode, mode_t mode) {
  const auto library = volume_.library();
  ext2fs_inode_alloc_stats2(volume_.fs(), inode, +1, S_ISDIR(mode) ? 1 : 0);
}

void InodeAllocator::give_back(InodeNumber inode, mode_t mode) {
  const auto library = volume_.library();
  auto in_use = InodeNumber{inode};
  place_of(inode).compare_exchange_strong(in_use, 0);
  ext2fs_inode_alloc_stats2(volume_.fs(), inode, -1, S_ISDIR(mode) ? 1 : 0);
}

bool InodeAllocator::in_use(InodeNumber inode) {
  auto& place = place_of(inode);
  if (place.load(std::memory_order_acquire) == inode) return true;
  const auto library = volume_.library();
  const bool in_use = ext2fs_test_inode_bitmap2(volume_.fs()->inode_map, inode) != 0;
  if (in_use) place.store(inode, std::memory_order_release);
  return in_use;
}

InodeNumber InodeAllocator::first_of_roomiest_group() {
  auto* const fs = volume_.fs();
  dgrp_t best = 0;
  std::uint64_t most = 0;
  for (dgrp_t group = 0; group < fs->group_desc_count; ++group) {
    const std::uint64_t inodes = ext2fs_bg_free_inodes_count(fs, group);
    // Many directories in a group mean that files will follow.
    const std::uint64_t room =
        inodes / (1 + ext2fs_bg_used_dirs_count(fs, group)) * (ext2fs_bg_free_blocks_count(fs, group) + 1);
    if (inodes != 0 && room > most) {
      most = room;
      best = group;
    }
  }
  return best * fs->super->s_inodes_per_group + 1;
}

}  // namespace fuse4fs::ext4
