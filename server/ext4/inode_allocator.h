// SPDX-License-Identifier: GPL-2.0-or-later
// Which inodes are free.
//
// Locking: the metadata lock. Errors: ENOSPC.
#pragma once

#include "base/result.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class InodeAllocator {
 public:
  explicit InodeAllocator(Volume& volume) : volume_(volume) {}

  // Files go to their directory's group. Directories of the root are spread over the volume, so that trees
  // that grow apart do not mix.
  Result<InodeNumber> take(InodeNumber parent, mode_t mode);
  // This one, which is free.
  void take_this(InodeNumber inode, mode_t mode);
  void give_back(InodeNumber inode, mode_t mode);
  [[nodiscard]] bool in_use(InodeNumber inode);

 private:
  [[nodiscard]] InodeNumber first_of_roomiest_group();

  Volume& volume_;
};

}  // namespace fuse4fs::ext4
