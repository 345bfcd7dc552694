// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_allocator.h"

#include <sys/stat.h>

namespace fuse4fs::ext4 {
namespace {

InodeBitmaps::What what_is(mode_t mode) {
  return S_ISDIR(mode) ? InodeBitmaps::What::kDirectory : InodeBitmaps::What::kFile;
}

}  // namespace

Result<InodeNumber> InodeAllocator::take(InodeNumber parent, mode_t mode, Parent kind) {
  auto& groups = volume_.groups();
  auto& bitmaps = volume_.inode_bitmaps();
  Errno error(ENOSPC);
  GroupNumber group = group_for(parent, mode, kind);
  // A directory's files are many: where its own group is full, they go through the others.
  const bool has_left = !S_ISDIR(mode) && group != bitmaps.group_of(parent);
  for (GroupNumber tried = 0; tried < groups.count() && groups.free_inodes() != 0; ++tried) {
    if (groups.free_inodes(group) != 0) {
      // Most find one in the first.
      if (tried != 0 || has_left)
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

GroupNumber InodeAllocator::group_for(InodeNumber parent, mode_t mode, Parent kind) {
  if (!S_ISDIR(mode)) return orlov_.group_of_file(parent);
  return kind == Parent::kTop || parent == kRootInode ? orlov_.group_of_top_directory(parent)
                                                      : orlov_.group_of_directory(parent);
}

}  // namespace fuse4fs::ext4
