// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/group_descriptors.h"

#include <algorithm>
#include <cstring>

namespace fuse4fs::ext4 {

GroupDescriptors::GroupDescriptors(struct_ext2_filsys& fs)
    : fs_(fs),
      size_(EXT2_DESC_SIZE(fs.super)),
      is_long_(size_ >= sizeof(ext4_group_desc)),
      has_checksums_(ext2fs_has_group_desc_csum(&fs) != 0),
      free_inodes_(fs.super->s_free_inodes_count) {}

// What is read meanwhile is never too small: a group that has room is not taken for full.
void GroupDescriptors::set(GroupNumber group, Field field, std::uint32_t value) {
  const auto put = [&](std::size_t offset, std::uint32_t bits) {
    half(group, offset).store(static_cast<std::uint16_t>(bits), std::memory_order_relaxed);
  };
  const bool grows = is_long_ && value > get(group, field);
  if (grows) put(field.high, value >> 16);
  put(field.low, value);
  if (is_long_ && !grows) put(field.high, value >> 16);
}

std::uint64_t GroupDescriptors::place(GroupNumber group, std::size_t low, std::size_t high) const {
  std::uint32_t part = 0;
  std::memcpy(&part, at(group) + low, sizeof part);
  std::uint64_t block = part;
  if (is_long_) {
    std::memcpy(&part, at(group) + high, sizeof part);
    block |= std::uint64_t{part} << 32;
  }
  return block;
}

std::uint64_t GroupDescriptors::inode_bitmap(GroupNumber group) const {
  return place(group, offsetof(ext4_group_desc, bg_inode_bitmap),
               offsetof(ext4_group_desc, bg_inode_bitmap_hi));
}

bool GroupDescriptors::is_sum(GroupNumber group, Field field, std::uint32_t sum) const {
  return get(group, field) == (is_long_ ? sum : sum & 0xffff);
}

void GroupDescriptors::clear_flag(GroupNumber group, std::uint16_t flag) {
  half(group, offsetof(ext4_group_desc, bg_flags))
      .fetch_and(static_cast<std::uint16_t>(~flag), std::memory_order_release);
}

std::uint32_t GroupDescriptors::unused_inodes(GroupNumber group) const {
  return has_checksums_ ? std::min(get(group, kUnusedInodes), fs_.super->s_inodes_per_group) : 0;
}

void GroupDescriptors::note_inode_taken(GroupNumber group, std::uint32_t index, What what) {
  // Where a damaged volume has counted fewer, the sums stay those of the groups.
  if (const auto free = free_inodes(group); free != 0) {
    set(group, kFreeInodes, free - 1);
    free_inodes_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (what == What::kDirectory) set(group, kDirectories, used_directories(group) + 1);
  if (!has_checksums_) return;
  const std::uint32_t behind = fs_.super->s_inodes_per_group - 1 - index;
  if (unused_inodes(group) > behind) set(group, kUnusedInodes, behind);
}

void GroupDescriptors::note_inode_freed(GroupNumber group, What what) {
  if (const auto free = free_inodes(group); free < fs_.super->s_inodes_per_group) {
    set(group, kFreeInodes, free + 1);
    free_inodes_.fetch_add(1, std::memory_order_relaxed);
  }
  const auto directories = used_directories(group);
  if (what == What::kDirectory && directories != 0) set(group, kDirectories, directories - 1);
}

void GroupDescriptors::set_inodes(GroupNumber group, std::uint32_t free, std::uint32_t directories,
                                  std::uint32_t unused) {
  set(group, kFreeInodes, free);
  set(group, kDirectories, directories);
  if (has_checksums_ && unused < get(group, kUnusedInodes)) set(group, kUnusedInodes, unused);
}

}  // namespace fuse4fs::ext4
