// SPDX-License-Identifier: GPL-2.0-or-later
// Where the structures that fuzzers change lie in a volume, and their checksums.
//
// Offsets are in bytes. Format: Documentation/filesystems/ext4/ of the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/ext4/ext2.h"
#include "tests/fuzz/memory_volume.h"
#include "tests/fuzz/volume_input.h"

namespace fuse4fs::ext4::fuzz {

struct Region {
  std::size_t offset = 0;
  std::size_t length = 0;
};

// Of a volume that nobody has damaged: where things lie is known from it, whatever is laid over them.
class VolumeAreas {
 public:
  static constexpr InodeNumber kFirstFile = 11;
  static constexpr InodeNumber kLastFile = 24;

  explicit VolumeAreas(const std::string& bytes);

  [[nodiscard]] std::vector<Region> regions(Area area) const;
  [[nodiscard]] Region inode(InodeNumber number) const;
  [[nodiscard]] bool has_orphan_file() const { return !orphan_blocks_.empty(); }
  [[nodiscard]] std::size_t orphan_block() const { return orphan_blocks_.front(); }

  // The volume says that its orphan file holds something, if it has one.
  void announce_orphans(std::string& bytes) const;
  // All checksums of `bytes`, a changed copy, as its own superblock wants them.
  void seal(std::string& bytes) const;

 private:
  struct MapBlock {
    InodeNumber owner;
    std::size_t offset;
  };
  // An inode that holds the value of an extended attribute, and the first part of it.
  struct Value {
    InodeNumber inode;
    Region content;
  };
  void find_map_blocks(const std::string& bytes, InodeNumber number);
  void add_map_block(const std::string& bytes, InodeNumber owner, std::uint64_t block, int levels_below);
  void find_attributes(const std::string& bytes, InodeNumber number);
  [[nodiscard]] bool has_map(const std::string& bytes, InodeNumber number) const;
  [[nodiscard]] std::vector<Region> attributes() const;
  void seal_bitmaps(std::string& bytes, std::uint32_t seed, std::size_t descriptor) const;

  std::size_t inode_size_ = 0;
  std::uint32_t clusters_per_group_ = 0;
  std::size_t descriptor_size_ = 0;
  std::uint32_t inodes_per_group_ = 0;
  InodeNumber orphan_file_ = 0;
  std::vector<std::size_t> tables_;  // by group
  std::vector<Region> bitmaps_;      // what counts of them
  std::vector<MapBlock> map_blocks_;
  std::vector<std::size_t> attribute_blocks_;
  std::vector<Value> values_;
  std::vector<std::size_t> orphan_blocks_;
};

}  // namespace fuse4fs::ext4::fuzz
