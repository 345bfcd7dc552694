// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes by number: reading and judging them, writing them, and the counts that keep unlinked ones alive.
//
// Locking: the metadata lock, for the counts as well: a look-up and the unlink of the same name must not pass
// each other between finding the inode and counting it.
// Errors: EUCLEAN for an inode that cannot be (told already), ESTALE for one that is gone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "server/ext4/acl_store.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inode.h"
#include "server/ext4/inode_allocator.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_store.h"

namespace fuse4fs::ext4 {

class InodeTable {
 public:
  InodeTable(Volume& volume, InodeAllocator& inodes, ExtentMap& extents, XattrStore& xattrs, AclStore& acls)
      : volume_(volume), inodes_(inodes), extents_(extents), xattrs_(xattrs), acls_(acls) {}

  Result<Inode> read(InodeNumber number);
  Result<void> write(Inode& inode);
  // As read(), and its block map was walked once: libext2fs may change it.
  Result<Inode> read_for_change(InodeNumber number);

  // Of a number that may be anything: ESTALE, without a word, for what is no file (any more).
  Result<Inode> read_from_handle(std::uint64_t number);

  // A fresh inode, in the bitmap and written, with the mode and the ACLs that it gets in this directory.
  // Links: 1 (directories: 2).
  Result<Inode> create(Inode& parent, const NewInode& what);
  // Undoes create(): a free inode without blocks and attributes. Written.
  void discard(Inode& inode);

  void remember(InodeNumber number) { ++known_[number].lookups; }
  // Deletes the inode if that was the last reason to keep it.
  Result<void> forget(InodeNumber number, std::uint64_t count);
  // Its last link went: deleted now, or when it is forgotten. `inode` was written with no links.
  Result<void> orphan(Inode& inode);
  // A fresh one without links, which waits for a name, and is deleted if it is forgotten without one.
  void wait_for_name(InodeNumber number);
  [[nodiscard]] bool waits_for_name(InodeNumber number) const;
  // It has got one.
  void settle(InodeNumber number);
  // What still waits to be forgotten is deleted.
  Result<void> delete_orphans();

  // For replays, of inodes that may not be what read() takes: whether a file can have that number, the inode
  // as it lies there, and its end, with all blocks and attributes. Its map was checked.
  [[nodiscard]] bool may_be_a_file(std::uint64_t number) const;
  void read_ahead(InodeNumber number);
  Result<Inode> read_raw(InodeNumber number);
  Result<void> release(Inode& inode);

 private:
  struct Known {
    std::uint64_t lookups = 0;
    bool unlinked = false;
    bool map_checked = false;
    bool waits_for_name = false;
  };

  Result<void> judge(const Inode& inode);
  Result<void> remove(Inode& inode);
  [[nodiscard]] std::uint32_t draw_generation();

  Volume& volume_;
  InodeAllocator& inodes_;
  ExtentMap& extents_;
  XattrStore& xattrs_;
  AclStore& acls_;
  std::unordered_map<InodeNumber, Known> known_;
  // For new inodes: random, drawn many at a time to save system calls. The last ones are still to be used.
  std::array<std::uint32_t, 64> generations_{};
  std::size_t generations_left_ = 0;
};

}  // namespace fuse4fs::ext4
