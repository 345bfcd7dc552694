// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes by number, as the bytes that they are in the blocks of their groups' tables: found, read with their
// checksum judged, written with a fresh one.
//
// A write changes a cached block, so what is done to many inodes of one block goes to the device at once; one
// that changes nothing is none.
//
// An inode is judged once, for as long as the cache has its block as an inode table's: sound ones stay
// readable beside one that is damaged, or that lies in a part of the table that was never written, and who
// wants one of many does not pay for all. (Of blocks with more inodes than the cache has bits for, the others
// each time.)
//
// What libext2fs reads by itself, where it goes through a map (block_owners), comes from here as well
// (Volume::start()): so it keeps no copies.
//
// Facts: the kernel's Documentation/filesystems/ext4 (inodes, checksums). Which damage is accepted is as in
// libext2fs: an inode whose first 128 bytes are zeros needs no checksum, for one was never there.
//
// Locking: any thread. Of two that know one inode, one of whom writes it, the caller keeps one out; inodes
// that share a block are kept apart here (rank kInodeBlock: stripes over the blocks, for moments; no block is
// read under one). Errors: libext2fs's codes, for Volume::check(), which tells them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <span>

#include "base/guarded.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"
#include "server/ext4/group_descriptors.h"
#include "server/ext4/write_order.h"
#include "server/journal/handle.h"

namespace fuse4fs::ext4 {

class InodeBlocks {
 public:
  // They outlive it.
  InodeBlocks(struct_ext2_filsys& fs, const GroupDescriptors& groups, cache::BufferCache& cache,
              journal::Journal& journal);

  // As many bytes as `into` takes, but no more than an inode has.
  errcode_t read(InodeNumber number, std::span<std::byte> into);

  // All of it, and where it lies.
  errcode_t copy(InodeNumber number, EarlierInode& into);

  // The block of the table that holds it was never used: zeros, whatever lies there, and nothing is read.
  // Under a handle.
  errcode_t begin(InodeNumber number);

  // What becomes of an inode's bytes behind those that are written.
  enum class Rest { kKept, kZeros };
  // Under a handle. Its checksum is not judged before: a damaged one may be written over.
  errcode_t write(InodeNumber number, std::span<const std::byte> from, Rest rest);
  // From now on they are only read.
  void forbid_writes() { writable_ = false; }

 private:
  struct Place {
    std::uint64_t block = 0;
    std::uint32_t index = 0;  // of the block's inodes
    std::size_t offset = 0;   // in bytes, inside the block
    cache::Buffer buffer = {};
    [[nodiscard]] std::span<const std::byte> inode(std::size_t size) const {
      return buffer.bytes().subspan(offset, size);
    }
  };
  errcode_t find(InodeNumber number, Place& place) const;
  errcode_t open(InodeNumber number, Place& place);

  [[nodiscard]] bool has_high_checksum(std::span<const std::byte> inode) const;
  // What its checksum should be, whatever stands there.
  [[nodiscard]] std::uint32_t checksum_of(InodeNumber number, std::span<const std::byte> inode) const;
  [[nodiscard]] bool is_sound(InodeNumber number, std::span<const std::byte> inode) const;
  // Under its stripe. Remembers what it found good.
  bool judge(InodeNumber number, Place& place) const;

  // Read: shared. Written: exclusive. In cache lines of their own.
  struct alignas(64) Stripe {
    RankedMutex<std::shared_mutex, LockRank::kInodeBlock> mutex;
  };
  static constexpr std::size_t kStripes = 64;
  [[nodiscard]] Stripe& stripe_of(const Place& place) { return stripes_[place.block % kStripes]; }

  struct_ext2_filsys& fs_;
  const GroupDescriptors& groups_;
  cache::BufferCache& cache_;
  journal::Journal& journal_;
  const std::uint64_t blocks_;  // of the volume
  const std::size_t inode_size_;
  const std::uint32_t inodes_per_block_;
  const bool has_checksums_;
  std::atomic<bool> writable_;
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace fuse4fs::ext4
