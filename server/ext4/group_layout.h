// SPDX-License-Identifier: GPL-2.0-or-later
// Where a volume's groups keep their superblocks, descriptors, bitmaps and inode tables, by the superblock
// and the descriptors alone: for what has to be known before libext2fs may open the volume.
//
// `super` was judged (superblock_check.h): its geometry is possible. What a descriptor says is not judged
// here but for is_inside(). Facts: the kernel's Documentation/filesystems/ext4 (blockgroup, group_descr).
// Locking: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

class GroupLayout {
 public:
  explicit GroupLayout(const ext2_super_block& super);

  [[nodiscard]] std::uint32_t block_size() const { return block_size_; }
  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  [[nodiscard]] std::uint32_t groups() const { return groups_; }
  [[nodiscard]] std::uint32_t inode_size() const { return inode_size_; }
  [[nodiscard]] std::uint32_t table_blocks() const { return table_blocks_; }
  [[nodiscard]] std::uint64_t first_block_of(std::uint32_t group) const;
  [[nodiscard]] bool has_superblock(std::uint32_t group) const;
  [[nodiscard]] bool is_inside(std::uint64_t first, std::uint64_t count) const;

  // The block that holds the descriptor of `group`; the primary copy.
  [[nodiscard]] std::uint64_t descriptor_block_of(std::uint32_t group) const;
  // Superblock and descriptors that lie at the begin of `group`, all copies; 0 blocks where there are none.
  [[nodiscard]] std::uint32_t head_blocks_of(std::uint32_t group) const;

  struct Descriptor {
    std::uint64_t block_bitmap, inode_bitmap, inode_table;
  };
  Result<Descriptor> read(const cache::BlockDevice& device, std::uint32_t group) const;
  // All of them, in order.
  Result<void> for_each(const cache::BlockDevice& device,
                        const std::function<void(std::uint32_t group, const Descriptor&)>& found) const;

 private:
  [[nodiscard]] Descriptor parse(const std::byte* raw) const;
  [[nodiscard]] bool in_meta_group(std::uint32_t descriptor_block) const;

  const ext2_super_block& super_;
  std::uint32_t block_size_, groups_, inode_size_, table_blocks_, descriptor_size_, per_block_;
  std::uint64_t blocks_;
};

}  // namespace fuse4fs::ext4
