// SPDX-License-Identifier: GPL-2.0-or-later
// Values of extended attributes that have an inode of their own (feature ea_inode).
//
// Such an inode has no name. Equal values share one: it counts who refers to it, in fields that are times and
// the version elsewhere (ctime and version the count, atime the value's checksum). Old Lustre volumes have
// one inode for each value, without count and checksum, but with its owner's number as mtime.
//
// Locking: read() any thread that holds the owner's lock; it keeps those out that fill or delete such an
// inode (rank kXattrValue: stripes over them, shared by readers, and held across their I/O). The others one
// thread at a time (XattrStore's rank kXattrShare). Errors: ENOSPC, EUCLEAN (told already).
// Format: Documentation/filesystems/ext4/attributes.rst.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <shared_mutex>
#include <span>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/ext4/dedup_index.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inode.h"
#include "server/ext4/inode_allocator.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_area.h"

namespace fuse4fs::ext4 {

class XattrValues {
 public:
  XattrValues(Volume& volume, BlockAllocator& blocks, ExtentMap& extents, InodeAllocator& inodes)
      : volume_(volume), blocks_(blocks), extents_(extents), inodes_(inodes) {}

  // The value of `entry`, which names an inode, of an attribute of `owner`.
  Result<std::vector<std::byte>> read(const Inode& owner, const XattrEntry& entry);

  // An inode that holds the value, referred to once more. Its number, and the value's checksum.
  struct Stored {
    InodeNumber inode = 0;
    std::uint32_t checksum = 0;
  };
  Result<Stored> store(const Inode& owner, std::span<const std::byte> value);
  Result<void> add_reference(const Inode& owner, const XattrEntry& entry);
  // What the entry adds to its owner's block count, in clusters: everybody pays for a shared value.
  std::uint64_t clusters(const Inode& owner, const XattrEntry& entry);
  // The last one deletes the inode.
  Result<void> drop_reference(const Inode& owner, const XattrEntry& entry);

 private:
  Result<Inode> open(const Inode& owner, InodeNumber number);
  Result<std::vector<std::byte>> content(const Inode& inode);
  Result<Stored> create(const Inode& owner, std::span<const std::byte> value, std::uint32_t checksum);
  Result<void> begin(Inode& inode, std::span<const std::byte> value);
  Result<void> fill(Inode& inode, std::span<const std::byte> value);
  Result<void> count(Inode& inode, int change);
  void ensure_credits(std::size_t bytes);
  Result<void> remove(Inode& inode);
  Result<void> write(Inode& inode);
  [[nodiscard]] std::uint32_t checksum_of(std::span<const std::byte> value);
  // By the owner's back pointer, where the checksum is not the value's.
  [[nodiscard]] static bool is_lustre(const Inode& owner, const XattrEntry& entry, const Inode& inode);

  Volume& volume_;
  BlockAllocator& blocks_;
  ExtentMap& extents_;
  InodeAllocator& inodes_;
  DedupIndex<InodeNumber> known_;  // by the value's checksum
  // Whatever a damaged volume says of who else has the inode: its map holds still while it is read. In cache
  // lines of their own.
  struct alignas(64) Stripe {
    RankedMutex<std::shared_mutex, LockRank::kXattrValue> mutex;
  };
  [[nodiscard]] auto& mutex_of(InodeNumber number) { return stripes_[number % stripes_.size()].mutex; }
  std::array<Stripe, 64> stripes_;
};

}  // namespace fuse4fs::ext4
