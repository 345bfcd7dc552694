// SPDX-License-Identifier: GPL-2.0-or-later
// Where ext4 notes the inodes that have no name any more, or are being truncated, so that a crash does not
// lose their blocks: a chain through the inodes, and a file.
//
// The chain begins in the superblock (s_last_orphan) and goes on in each inode's i_dtime. With the feature
// orphan_file, a file of the volume's own holds inode numbers, in blocks with a mark and a checksum at their
// end; what does not fit into it goes to the chain. The feature orphan_present says that the file may hold
// any.
//
// Locking: before anybody else has the volume.
// Errors: those of the device, and EUCLEAN (told already) where an inode cannot be read.
// Format: Documentation/filesystems/ext4/orphan.rst.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

// Whether the volume says that it has any.
[[nodiscard]] bool has_orphans(const ext2_super_block& super);

struct OrphanVerdict {
  std::optional<Inode> inode;  // none: the entry cannot be
  std::string why;             // then
  InodeNumber next = 0;        // of the chain
};
// Whether `number` may be on either list, as the kernel judges it: an inode in use, with no name or with
// blocks to truncate.
Result<OrphanVerdict> judge_orphan(Metadata& metadata, InodeNumber number);

struct OrphanChain {
  std::vector<InodeNumber> members;
  // What comes behind them is no orphan; 0 where the chain ends well.
  InodeNumber bad = 0;
};
// Of at most as many as there are inodes.
Result<OrphanChain> read_orphan_chain(Metadata& metadata);
// The chain becomes this one. Inodes that leave it are the caller's to write.
Result<void> write_orphan_chain(Metadata& metadata, const OrphanChain& chain);

class OrphanFile {
 public:
  // Nothing where the volume has none, or none that may hold anything. EUCLEAN with words where it is not
  // what it should be: its inode, and each block's mark and checksum were looked at.
  static Outcome<std::optional<OrphanFile>> open(Metadata& metadata);

  [[nodiscard]] std::size_t blocks() const { return blocks_.size(); }
  // The entries of a block; 0 is a free place.
  Outcome<std::vector<InodeNumber>> read(std::size_t index);
  // All its places are free from now on.
  Result<void> clear(std::size_t index);

 private:
  OrphanFile(Volume& volume, std::uint32_t seed) : volume_(&volume), seed_(seed) {}
  [[nodiscard]] std::uint32_t checksum(std::uint64_t block, std::span<const std::byte> bytes) const;

  Volume* volume_;
  std::uint32_t seed_;
  std::vector<std::uint64_t> blocks_;  // where they lie
};

}  // namespace fuse4fs::ext4
