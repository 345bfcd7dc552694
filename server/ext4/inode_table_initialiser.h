// SPDX-License-Identifier: GPL-2.0-or-later
// What mke2fs left of the inode tables (lazy_itable_init): a former owner's bytes, where descriptors say that
// no inode was ever used. Zeros go there, a group at a time, and then the descriptor says so
// (EXT2_BG_INODE_ZEROED): e2fsck may need to look there once, if descriptors are lost.
//
// It reads first, and writes only what is not zeros already: that spares flash, and keeps an image sparse.
// A group whose bitmap knows of inodes there is left as it is.
//
// Facts: the kernel's Documentation/filesystems/ext4 (blockgroup, "Lazy Block Group Initialization").
// Locking: one thread, which holds no lock and no handle. Takes the lock of the group for each piece, and a
// Pause at the end of a group. Errors: those of the device; a group whose bitmap is damaged is passed over.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/result.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class InodeTableInitialiser {
 public:
  explicit InodeTableInitialiser(Volume& volume) : volume_(volume) {}

  // The next table that needs it. False: there is none any more.
  Result<bool> next();

 private:
  // In the lock of one group.
  static constexpr std::size_t kPiece = std::size_t{256} << 10;  // bytes

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  void get_memory();
  Result<void> write(GroupNumber group);

  Volume& volume_;
  GroupNumber next_ = 0;
  std::unique_ptr<std::byte, Free> memory_;  // a piece of the table; while there is work
};

}  // namespace fuse4fs::ext4
