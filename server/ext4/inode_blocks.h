// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes by number, as the bytes that they are in the blocks of their groups' tables: found, read with their
// checksum judged, written with a fresh one.
//
// A write changes a cached block, so what is done to many inodes of one block goes to the device at once; one
// that changes nothing is none.
//
// A block whose inodes are all sound is judged once, for as long as the cache has it as an inode table's. In
// another one, each read judges its own inode: sound ones stay readable beside one that is damaged, or that
// lies in a part of the table that was never written.
//
// libext2fs still reads and writes inodes by itself where it changes maps, and keeps copies of them and of
// their last block: each write here drops those, or they would be written back over it. What it writes goes
// through the same cache, and needs nothing.
//
// Facts: the kernel's Documentation/filesystems/ext4 (inodes, checksums). Which damage is accepted is as in
// libext2fs: an inode whose first 128 bytes are zeros needs no checksum, for one was never there.
//
// Locking: the metadata lock. Errors: libext2fs's codes, for Volume::check(), which tells them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "server/cache/buffer_cache.h"
#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class InodeBlocks {
 public:
  // Both outlive it.
  InodeBlocks(struct_ext2_filsys& fs, cache::BufferCache& cache);

  // As many bytes as `into` takes, but no more than an inode has.
  errcode_t read(InodeNumber number, std::span<std::byte> into);

  // What becomes of an inode's bytes behind those that are written.
  enum class Rest { kKept, kZeros };
  // Its checksum is not judged before: a damaged one may be written over.
  errcode_t write(InodeNumber number, std::span<const std::byte> from, Rest rest);

 private:
  struct Place {
    std::uint64_t block = 0;
    std::size_t offset = 0;    // in bytes, inside the block
    InodeNumber first = 0;     // of the block
    std::uint32_t inodes = 0;  // of the block: a table may end inside of its last one
    bool is_judged = false;    // all of them are sound
    cache::Buffer buffer = {};
    [[nodiscard]] std::span<const std::byte> inode(std::size_t size) const {
      return buffer.bytes().subspan(offset, size);
    }
  };
  errcode_t find(InodeNumber number, Place& place) const;
  errcode_t open(InodeNumber number, Place& place);

  [[nodiscard]] bool has_high_checksum(std::span<const std::byte> inode) const;
  // What its checksum should be, of which the image loses its own.
  [[nodiscard]] std::uint32_t take_checksum(InodeNumber number, std::span<std::byte> image) const;
  [[nodiscard]] bool is_sound(InodeNumber number, std::span<const std::byte> inode);

  struct_ext2_filsys& fs_;
  cache::BufferCache& cache_;
  const std::size_t inode_size_;
  const std::uint32_t inodes_per_block_;
  const bool has_checksums_;
  std::vector<std::byte> image_;  // of the inode that is being written, or judged
};

}  // namespace fuse4fs::ext4
