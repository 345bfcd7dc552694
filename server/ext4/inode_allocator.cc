// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_allocator.h"

#include <sys/stat.h>

#include <algorithm>

#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

// The parent's group, or the next that has a free inode, going by its descriptor: libext2fs would look for
// one in the bitmaps of all that are full, each time.
InodeNumber first_of_next_group(ext2_filsys fs, InodeNumber parent) {
  const std::uint32_t inodes = fs->super->s_inodes_per_group;
  const dgrp_t own = (parent - 1) / inodes;
  dgrp_t group = own;
  do {
    if (ext2fs_bg_free_inodes_count(fs, group) != 0) break;
    group = group + 1 < fs->group_desc_count ? group + 1 : 0;
  } while (group != own);
  return group * inodes + 1;
}

}  // namespace

Result<InodeNumber> InodeAllocator::take(InodeNumber parent, mode_t mode) {
  const auto library = volume_.library();
  auto* const fs = volume_.fs();
  const bool spread = S_ISDIR(mode) && parent == kRootInode;
  // The bitmap has the last word, but a full volume is known without looking.
  if (fs->super->s_free_inodes_count == 0) return fail(ENOSPC);
  const InodeNumber first = EXT2_FIRST_INODE(fs->super);
  const InodeNumber last = fs->super->s_inodes_count;
  const InodeNumber goal =
      std::max(first, spread ? first_of_roomiest_group() : first_of_next_group(fs, parent));
  auto number = next_usable(goal, last);
  if (number == 0) number = next_usable(first, std::min(goal, last));
  if (number == 0) return fail(ENOSPC);
  ext2fs_inode_alloc_stats2(fs, number, +1, S_ISDIR(mode) ? 1 : 0);
  // With the first inode of a group libext2fs takes its bitmap of blocks for one that is written, too, but
  // does not see to that: it would stay without its checksum until a block is allocated somewhere.
  const auto group = static_cast<dgrp_t>((number - 1) / fs->super->s_inodes_per_group);
  if (ext2fs_bg_free_inodes_count(fs, group) + 1 == fs->super->s_inodes_per_group) ext2fs_mark_bb_dirty(fs);
  return number;
}

// From the first to the last of these; 0 if there is none.
InodeNumber InodeAllocator::next_usable(InodeNumber from, InodeNumber last) {
  auto* const map = volume_.fs()->inode_map;
  ext2_ino_t found = 0;
  while (from <= last && ext2fs_find_first_zero_inode_bitmap2(map, from, last, &found) == 0) {
    from = volume_.order().unreleased().first_free_inode(found);
    if (from == found) return found;
  }
  return 0;
}

InodeNumber InodeAllocator::first_of_group(dgrp_t group) const {
  return group * volume_.super().s_inodes_per_group + 1;
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
  volume_.note_inode_freed(inode);
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
  return first_of_group(best);
}

}  // namespace fuse4fs::ext4
