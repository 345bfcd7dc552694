// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_allocator.h"

#include <sys/stat.h>

namespace fuse4fs::ext4 {
namespace {

InodeBitmaps::What what_is(mode_t mode) {
  return S_ISDIR(mode) ? InodeBitmaps::What::kDirectory : InodeBitmaps::What::kFile;
}

}  // namespace

Result<InodeNumber> InodeAllocator::take(InodeNumber parent, mode_t mode) {
  auto& groups = volume_.groups();
  auto& bitmaps = volume_.inode_bitmaps();
  Errno error(ENOSPC);
  const bool spread = S_ISDIR(mode) && parent == kRootInode;
  GroupNumber group = spread ? roomiest_group() : bitmaps.group_of(parent);
  for (GroupNumber tried = 0; tried < groups.count() && groups.free_inodes() != 0; ++tried) {
    if (groups.free_inodes(group) != 0) {
      // Most find one in the first.
      if (tried != 0)
        bitmaps.blocks().read_ahead(group, [&](auto next) { return groups.free_inodes(next) != 0; });
      const auto number = bitmaps.take_lowest(group, what_is(mode));
      if (!number)
        error = number.error();
      else if (*number != 0)
        return *number;
    }
    group = group + 1 < groups.count() ? group + 1 : 0;
  }
  return fail(error);
}

Result<void> InodeAllocator::take_this(InodeNumber inode, mode_t mode) {
  return volume_.inode_bitmaps().take(inode, what_is(mode));
}

Result<void> InodeAllocator::give_back(InodeNumber inode, mode_t mode) {
  return volume_.inode_bitmaps().give_back(inode, what_is(mode));
}

GroupNumber InodeAllocator::roomiest_group() {
  const auto& groups = volume_.groups();
  GroupNumber best = 0;
  std::uint64_t most = 0;
  for (GroupNumber group = 0; group < groups.count(); ++group) {
    const std::uint64_t inodes = groups.free_inodes(group);
    // Many directories in a group mean that files will follow.
    const std::uint64_t room =
        inodes / (1 + groups.used_directories(group)) * (std::uint64_t{groups.free_clusters(group)} + 1);
    if (inodes != 0 && room > most) {
      most = room;
      best = group;
    }
  }
  return best;
}

}  // namespace fuse4fs::ext4
