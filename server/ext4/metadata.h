// SPDX-License-Identifier: GPL-2.0-or-later
// The classes that know the metadata of a volume, put together.
//
// Locking: each says its own. In short: who holds the lock of an inode (InodeTable) may call what concerns
// it, and, with a journal::Handle, change it; what inodes share the classes guard themselves.
#pragma once

#include <chrono>
#include <thread>

#include "server/ext4/acl_store.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/directory.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inline_data.h"
#include "server/ext4/inode_allocator.h"
#include "server/ext4/inode_table.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_store.h"

namespace fuse4fs::ext4 {

struct Metadata {
  explicit Metadata(Volume& the_volume)
      : volume(the_volume),
        blocks(volume),
        extents(volume, blocks),
        inode_allocator(volume),
        xattrs(volume, blocks, extents, inode_allocator),
        acls(volume, xattrs),
        inline_data(volume, blocks, extents, xattrs),
        inodes(volume, inode_allocator, extents, xattrs, acls),
        directories(volume, blocks, extents, inline_data) {}

  Volume& volume;
  BlockAllocator blocks;
  ExtentMap extents;
  InodeAllocator inode_allocator;
  XattrStore xattrs;
  AclStore acls;
  InlineData inline_data;
  InodeTable inodes;
  Directory directories;
};

// Between two holds of a lock in a long row of them: without a pause its holder takes it again before those
// who wait have woken up.
inline void let_others_in() { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

// What the kernel shows of an inode.
Attributes attributes_of(Volume& volume, const Inode& inode);

}  // namespace fuse4fs::ext4
