// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes by number: their locks, reading and judging them, writing them, and the look-ups that keep unlinked
// ones alive (live_inodes.h).
//
// Locking: any thread. What reads or changes an inode asks for its lock as a parameter; what changes it, for
// an open journal::Handle as well. A look-up is counted under the lock of the directory that names the inode:
// an unlink of the name cannot pass between finding and counting.
// Errors: EUCLEAN for an inode that cannot be (told already), ESTALE for one that is gone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/ext4/acl_store.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inode.h"
#include "server/ext4/inode_allocator.h"
#include "server/ext4/inode_read_ahead.h"
#include "server/ext4/live_inodes.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_store.h"

namespace fuse4fs::ext4 {

class InodeTable {
 public:
  using Held = LiveInodes::Held;
  using Shared = LiveInodes::Shared;
  using Exclusive = LiveInodes::Exclusive;
  using ExclusiveSet = LiveInodes::ExclusiveSet;

  // A look-up that is counted, and taken back unless it is kept. Goes where no lock is held.
  class [[nodiscard]] LookUp {
   public:
    LookUp(LookUp&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)), counted_(other.counted_) {}
    LookUp& operator=(LookUp&&) = delete;
    ~LookUp() {
      if (table_ != nullptr) (void)table_->forget(counted_.number(), 1);
    }
    [[nodiscard]] InodeNumber number() const { return counted_.number(); }
    [[nodiscard]] Shared lock_shared() const { return counted_.lock_shared(); }
    // Until forget().
    void keep() { table_ = nullptr; }

   private:
    friend class InodeTable;
    LookUp(InodeTable& table, LiveInodes::Counted counted) : table_(&table), counted_(counted) {}
    InodeTable* table_;
    LiveInodes::Counted counted_;
  };

  InodeTable(Volume& volume, InodeAllocator& inodes, ExtentMap& extents, XattrStore& xattrs, AclStore& acls)
      : volume_(volume), inodes_(inodes), extents_(extents), xattrs_(xattrs), acls_(acls) {}

  Shared lock_shared(InodeNumber number) { return live_.lock_shared(number); }
  Exclusive lock(InodeNumber number) { return live_.lock(number); }
  [[nodiscard]] ExclusiveSet lock_none() { return ExclusiveSet(live_); }

  Result<Inode> read(const Held& held);
  // With its lock for this alone.
  Result<Inode> read(InodeNumber number) { return read(lock_shared(number)); }
  Result<void> write(Inode& inode);
  // As read(), and its block map was walked once: it may be changed.
  Result<Inode> read_for_change(const Held& held);
  // Of a number that may be anything: ESTALE, without a word, for what is no file (any more).
  Result<Inode> read_from_handle(const Held& held);

  // A fresh inode, in the bitmap and written, with the mode and the ACLs that it gets in this directory.
  // Links: 1 (directories: 2). Nobody else can have its lock but who asks for its number by a file handle, so
  // it is not waited for.
  struct Fresh {
    Exclusive lock;
    Inode inode;
  };
  Result<Fresh> create(Inode& parent, const NewInode& what);
  // Undoes create(): a free inode without blocks and attributes. Written.
  void discard(Fresh& fresh);

  LookUp count(InodeNumber number) { return {*this, live_.count(number)}; }
  // Deletes the inode if that was the last reason to keep it; one with a large map perhaps later, when
  // whoever deletes another such one is done with that. With no lock held, nor a handle.
  // Or when the volume is not frozen any more, by delete_deferred().
  Result<void> forget(InodeNumber number, std::uint64_t count);
  Result<void> delete_deferred();
  // Its last link went: deleted now, or when it is forgotten. `inode` was written with no links.
  Result<void> orphan(const Exclusive& held, Inode& inode);
  // A fresh one without links, which waits for a name, and is deleted if it is forgotten without one.
  void wait_for_name(const Exclusive& held);
  // It has got one.
  void settle(const Exclusive& held);
  // What still waits to be forgotten is deleted. With no lock held, nor a handle.
  Result<void> delete_orphans();
  [[nodiscard]] bool has_orphans() { return !live_.unlinked().empty(); }
  // In memory: looked up, or in somebody's hands.
  [[nodiscard]] std::size_t live() { return live_.size(); }

  // For replays, of inodes that may not be what read() takes: whether a file can have that number, the inode
  // as it lies there, and its end, with all blocks and attributes. Its map was checked.
  [[nodiscard]] bool may_be_a_file(std::uint64_t number) const;
  void read_ahead(InodeNumber number);
  Result<Inode> read_raw(InodeNumber number);
  Result<void> release(Inode& inode, ExtentMap::Handles handles);

 private:
  Result<void> judge(const Held& held, const Inode& inode);
  Result<Exclusive> take(const Inode& parent, mode_t mode);
  Result<void> delete_forgotten(InodeNumber number);
  [[nodiscard]] static bool is_long_work(const Inode& inode);
  Result<void> remove(const Exclusive& held, Inode& inode);
  [[nodiscard]] std::uint32_t draw_generation();

  Volume& volume_;
  InodeAllocator& inodes_;
  ExtentMap& extents_;
  XattrStore& xattrs_;
  AclStore& acls_;
  LiveInodes live_;
  InodeReadAhead read_ahead_;
  // For new inodes: random, drawn many at a time to save system calls. The last ones are still to be used.
  struct Generations {
    std::array<std::uint32_t, 64> drawn{};
    std::size_t left = 0;
  };
  Guarded<Generations, LockRank::kLiveInodes> generations_;
  // Large maps that go, one after the other: what serves requests is not to be busy with nothing else.
  class LongDeletions;
  struct Waiting {
    bool busy = false;
    std::vector<InodeNumber> numbers;
  };
  Guarded<Waiting, LockRank::kLiveInodes> long_deletions_;
  // Forgotten while the volume was frozen.
  Guarded<std::vector<InodeNumber>, LockRank::kLiveInodes> deferred_;
};

}  // namespace fuse4fs::ext4
