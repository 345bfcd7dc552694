// SPDX-License-Identifier: GPL-2.0-or-later
// Which number a new inode gets: the lowest of its group (orlov_allocator.h), or of those behind it.
//
// Numbers that were freed lately are free, but not to be had yet (unreleased.h). A group whose bitmap is
// damaged or cannot be read is passed over.
//
// Locking: any thread (inode_bitmaps.h). Errors: ENOSPC; where no group has one, and one was passed over,
// what was wrong with it; EUCLEAN for what was free already, or was not. All but ENOSPC told already.
#pragma once

#include "base/result.h"
#include "server/ext4/orlov_allocator.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class InodeAllocator {
 public:
  explicit InodeAllocator(Volume& volume) : volume_(volume), orlov_(volume) {}

  // What directories in this one are: of kTop, as of the root, trees that grow apart.
  enum class Parent { kOrdinary, kTop };
  Result<InodeNumber> take(InodeNumber parent, mode_t mode, Parent kind = Parent::kOrdinary);
  // This one, which is free.
  Result<void> take_this(InodeNumber inode, mode_t mode);
  Result<void> give_back(InodeNumber inode, mode_t mode);
  [[nodiscard]] bool in_use(InodeNumber inode) { return volume_.inode_bitmaps().in_use(inode); }

 private:
  [[nodiscard]] GroupNumber group_for(InodeNumber parent, mode_t mode, Parent kind);

  Volume& volume_;
  OrlovAllocator orlov_;
};

}  // namespace fuse4fs::ext4
