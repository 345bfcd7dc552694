// SPDX-License-Identifier: GPL-2.0-or-later
// The extended attributes of inodes: in the room behind the inode's fields, in one block (which inodes with
// equal attributes share, up to 1024 of them), and large values in inodes of their own.
//
// Where an attribute goes is what the kernel's ext4 does: the inode first, then the block, then, with the
// feature ea_inode, an inode for the value; very large ones have that at once. All fits or nothing changes.
//
// `inode` is written with all that the caller changed in it, and is up to date afterwards. Its ctime and
// version are the caller's.
//
// Locking: any thread that holds the inode's lock, shared or, for changes, exclusive. Who changes what inodes
// share (blocks and their counts of sharers, inodes of values) does it one at a time (rank kXattrShare). Who
// only reads waits for nobody who waits for the device for another block or value: the bytes of a block are
// kept still for moments (rank kXattrBlock: stripes over the blocks), for its count changes in place, and a
// damaged volume may have it in use twice; of values see xattr_values.h. Errors: ENODATA, EEXIST, ENOSPC,
// ERANGE for a name that is too long, EUCLEAN (told already).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/dedup_index.h"
#include "server/ext4/default_acls.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inode.h"
#include "server/ext4/inode_allocator.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_area.h"
#include "server/ext4/xattr_values.h"

namespace fuse4fs::ext4 {

class XattrStore {
 public:
  XattrStore(Volume& volume, BlockAllocator& blocks, ExtentMap& extents, InodeAllocator& inodes)
      : volume_(volume), blocks_(blocks), extents_(extents), values_(volume, blocks, extents, inodes) {}

  // Nothing where it is not there.
  Result<std::optional<std::vector<std::byte>>> get(const Inode& inode, const XattrName& name);
  // All, in the order in which they are listed; values may be missing.
  Result<XattrEntries> list(const Inode& inode);

  enum class Change { kNone, kDone };
  // kNone: it has this value already. Nothing is written then, the caller's changes neither.
  Result<Change> set(Inode& inode, const XattrName& name, std::span<const std::byte> value, XattrMode mode);
  // kNone: it is not there.
  Result<Change> remove(Inode& inode, const XattrName& name);
  // Content of a file inside its inode: never leaves the inode. ENOSPC where there is no room.
  Result<void> set_inline_data(Inode& inode, std::span<const std::byte> value);
  // How long that may be, beside the attributes that are there: in bytes, in fours.
  Result<std::size_t> room_for_inline_data(const Inode& inode);

  // Of inodes whose attributes have not changed since.
  [[nodiscard]] DefaultAcls& default_acls() { return default_acls_; }

  // The inode is about to be deleted. Not written.
  Result<void> release_all(Inode& inode);

 private:
  // An inode's attributes, as they are or are to be.
  struct Places {
    std::size_t room = 0;   // bytes in the inode, 0 if it cannot hold any
    std::size_t begin = 0;  // of that room, from the beginning of the inode
    XattrEntries in_inode;
    std::uint64_t block = 0;
    std::uint32_t sharers = 0;  // of the block
    XattrEntries in_block;
  };
  Result<Places> read(const Inode& inode);
  Result<void> read_inode_part(const Inode& inode, Places& places);
  Result<void> read_block(const Inode& inode, Places& places);
  // As one of attributes: judged.
  Result<cache::Buffer> open_block(const Inode& inode, std::uint64_t block);
  std::uint32_t checksum_of_block(std::uint64_t block, std::span<const std::byte> bytes);
  // What is wrong with one, whoever has it; empty if nothing. Asked once while the cache has it.
  std::string_view judge_block(std::uint64_t block, std::span<const std::byte> bytes);
  // By itself, of an inode without a block. True where there may be one.
  Result<bool> may_have(const Inode& inode, const XattrName& name);
  Result<std::vector<std::byte>> value_of(const Inode& inode, const XattrEntry& entry);
  // What the area says, with what it may not say refused.
  Result<XattrEntries> parse(const Inode& inode, std::span<const std::byte> area, std::size_t first,
                             std::uint64_t block);

  // To be held where what is shared changes, and before a block is read on whose sharers that depends.
  using ShareLock = std::unique_lock<RankedMutex<std::mutex, LockRank::kXattrShare>>;
  // Held already where the inode has a block.
  ShareLock share(const Inode& inode);
  [[nodiscard]] static bool is_shared(const Places& places);

  // Put the attribute into the list if it fits there.
  static bool place_in_inode(Places& places, const XattrEntry& entry);
  bool place_in_block(Places& places, const XattrEntry& entry);
  // Either, or as an inode of its own where the volume has those.
  Result<Places> plan(const Places& from, XattrEntry entry);
  [[nodiscard]] bool has_value_inodes();

  // From one state to the other. `fresh`: the inode of the new value, already counted.
  Result<void> change(Inode& inode, const Places& from, Places& to, InodeNumber fresh);
  // Where `to.in_block` is from now on; `to.block` and `to.sharers` say so.
  Result<void> store_block(Inode& inode, const Places& from, Places& to, InodeNumber fresh);
  Result<void> take_block(Inode& inode, Places& to, InodeNumber fresh);
  Result<void> write_block(const Inode& inode, const Places& places);
  Result<void> set_sharers(const Inode& inode, std::uint64_t block, std::uint32_t sharers);
  // With its checksum.
  Result<void> seal_and_write(const Inode& inode, std::uint64_t block, std::span<std::byte> bytes);
  Result<void> write_inode(Inode& inode, const Places& from, const Places& to);
  Result<void> leave_block(Inode& inode, const Places& from);
  // The block and the values that are no longer there no longer count, the new ones do.
  Result<void> count_blocks(Inode& inode, const Places& from, const Places& to);
  Result<void> drop_values(const Inode& inode, const XattrEntries& from, const XattrEntries& to);

  // A block that others have, with these attributes.
  bool find_equal_block(const Inode& inode, Places& places);
  void remember_block(const Places& places);

  Volume& volume_;
  BlockAllocator& blocks_;
  ExtentMap& extents_;
  XattrValues values_;
  DefaultAcls default_acls_;
  RankedMutex<std::mutex, LockRank::kXattrShare> share_;
  DedupIndex<std::uint64_t> known_blocks_;  // by the hash of all that is in them
  // In cache lines of their own.
  struct alignas(64) Stripe {
    RankedMutex<std::shared_mutex, LockRank::kXattrBlock> mutex;
  };
  [[nodiscard]] auto& mutex_of(std::uint64_t block) { return stripes_[block % stripes_.size()].mutex; }
  std::array<Stripe, 64> stripes_;
};

}  // namespace fuse4fs::ext4
