// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/group_layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace fuse4fs::ext4 {
namespace {

bool is_power_of(std::uint32_t base, std::uint32_t number) {
  while (number % base == 0) number /= base;
  return number == 1;
}

}  // namespace

GroupLayout::GroupLayout(const ext2_super_block& super) : super_(super) {
  const bool wide = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
  block_size_ = 1024U << super.s_log_block_size;
  blocks_ = super.s_blocks_count | (wide ? std::uint64_t{super.s_blocks_count_hi} << 32 : 0);
  groups_ = static_cast<std::uint32_t>((blocks_ - super.s_first_data_block + super.s_blocks_per_group - 1) /
                                       super.s_blocks_per_group);
  inode_size_ = super.s_rev_level == EXT2_GOOD_OLD_REV ? EXT2_GOOD_OLD_INODE_SIZE : super.s_inode_size;
  table_blocks_ = static_cast<std::uint32_t>(
      (std::uint64_t{super.s_inodes_per_group} * inode_size_ + block_size_ - 1) / block_size_);
  descriptor_size_ = wide ? super.s_desc_size : EXT2_MIN_DESC_SIZE;
  per_block_ = block_size_ / descriptor_size_;
}

std::uint64_t GroupLayout::first_block_of(std::uint32_t group) const {
  // With 1 KiB blocks and clusters the first block counts as the first group's, and holds the boot sector.
  const std::uint64_t boot = group == 0 && block_size_ == 1024 && super_.s_first_data_block == 0 ? 1 : 0;
  return super_.s_first_data_block + std::uint64_t{group} * super_.s_blocks_per_group + boot;
}

bool GroupLayout::has_superblock(std::uint32_t group) const {
  if (group == 0) return true;
  if ((super_.s_feature_compat & EXT4_FEATURE_COMPAT_SPARSE_SUPER2) != 0)
    return group == super_.s_backup_bgs[0] || group == super_.s_backup_bgs[1];
  if ((super_.s_feature_ro_compat & EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER) == 0 || group == 1) return true;
  return is_power_of(3, group) || is_power_of(5, group) || is_power_of(7, group);
}

bool GroupLayout::is_inside(std::uint64_t first, std::uint64_t count) const {
  return first > super_.s_first_data_block && first < blocks_ && count <= blocks_ - first;
}

bool GroupLayout::in_meta_group(std::uint32_t descriptor_block) const {
  return (super_.s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG) != 0 &&
         descriptor_block >= super_.s_first_meta_bg;
}

std::uint64_t GroupLayout::descriptor_block_of(std::uint32_t group) const {
  const std::uint32_t number = group / per_block_;
  if (!in_meta_group(number)) return first_block_of(0) + 1 + number;
  const std::uint32_t first = number * per_block_;
  return first_block_of(first) + (has_superblock(first) ? 1 : 0);
}

std::uint32_t GroupLayout::head_blocks_of(std::uint32_t group) const {
  const std::uint32_t superblock = has_superblock(group) ? 1 : 0;
  const std::uint32_t number = group / per_block_;
  if (in_meta_group(number)) {
    const std::uint32_t inside = group % per_block_;
    return superblock + (inside == 0 || inside == 1 || inside == per_block_ - 1 ? 1 : 0);
  }
  if (superblock == 0) return 0;
  const std::uint32_t all = (groups_ + per_block_ - 1) / per_block_;
  const bool meta = (super_.s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG) != 0;
  return superblock + (meta ? std::min(super_.s_first_meta_bg, all) : all + super_.s_reserved_gdt_blocks);
}

GroupLayout::Descriptor GroupLayout::parse(const std::byte* raw) const {
  ext4_group_desc descriptor{};
  std::memcpy(&descriptor, raw, std::min<std::size_t>(descriptor_size_, sizeof descriptor));
  const auto whole = [](std::uint32_t low, std::uint32_t high) {
    return low | static_cast<std::uint64_t>(high) << 32;
  };
  return {whole(descriptor.bg_block_bitmap, descriptor.bg_block_bitmap_hi),
          whole(descriptor.bg_inode_bitmap, descriptor.bg_inode_bitmap_hi),
          whole(descriptor.bg_inode_table, descriptor.bg_inode_table_hi)};
}

Result<GroupLayout::Descriptor> GroupLayout::read(const cache::BlockDevice& device,
                                                  std::uint32_t group) const {
  std::array<std::byte, sizeof(ext4_group_desc)> raw{};
  const std::uint64_t offset =
      descriptor_block_of(group) * block_size_ + std::uint64_t{group % per_block_} * descriptor_size_;
  RETURN_IF_ERROR(
      device.read(offset, std::span(raw).first(std::min<std::size_t>(descriptor_size_, raw.size()))));
  return parse(raw.data());
}

Result<void> GroupLayout::for_each(
    const cache::BlockDevice& device,
    const std::function<void(std::uint32_t group, const Descriptor&)>& found) const {
  std::vector<std::byte> block(block_size_);
  for (std::uint32_t group = 0; group < groups_; ++group) {
    const std::uint32_t inside = group % per_block_;
    if (inside == 0) RETURN_IF_ERROR(device.read(descriptor_block_of(group) * block_size_, block));
    found(group, parse(block.data() + std::size_t{inside} * descriptor_size_));
  }
  return {};
}

}  // namespace fuse4fs::ext4
