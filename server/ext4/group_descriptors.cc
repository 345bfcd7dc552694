// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/group_descriptors.h"

#include <algorithm>
#include <span>

#include "server/ext4/group_layout.h"

namespace fuse4fs::ext4 {

GroupDescriptors::GroupDescriptors(struct_ext2_filsys& fs)
    : fs_(fs),
      size_(EXT2_DESC_SIZE(fs.super)),
      is_long_(size_ >= sizeof(ext4_group_desc)),
      has_checksums_(ext2fs_has_group_desc_csum(&fs) != 0),
      free_inodes_(fs.super->s_free_inodes_count),
      free_clusters_(ext2fs_free_blocks_count(fs.super) >> fs.cluster_ratio_bits) {
  for (GroupNumber group = 0; group < count(); ++group) directories_ += used_directories(group);
}

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

void GroupDescriptors::set_directories(GroupNumber group, std::uint32_t value) {
  const std::uint32_t before = used_directories(group);
  set(group, kDirectories, value);
  // As with unsigned numbers: less is more beyond the highest.
  directories_.fetch_add(std::uint64_t{used_directories(group)} - before, std::memory_order_relaxed);
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

std::uint32_t GroupDescriptors::used_table_blocks(GroupNumber group) const {
  if (has_no_inodes(group)) return 0;
  const std::uint32_t in_a_block = EXT2_INODES_PER_BLOCK(fs_.super);
  return (fs_.super->s_inodes_per_group - unused_inodes(group) + in_a_block - 1) / in_a_block;
}

void GroupDescriptors::note_table_initialised(GroupNumber group) {
  half(group, offsetof(ext4_group_desc, bg_flags)).fetch_or(EXT2_BG_INODE_ZEROED, std::memory_order_relaxed);
  note_changed(group);
}

bool GroupDescriptors::has_right_sums() const {
  std::uint64_t inodes = 0, clusters = 0, directories = 0;
  for (GroupNumber group = 0; group < count(); ++group) {
    inodes += free_inodes(group);
    clusters += free_clusters(group);
    directories += used_directories(group);
  }
  return inodes == free_inodes() && clusters == free_clusters() && directories == used_directories();
}

void GroupDescriptors::note_inode_taken(GroupNumber group, std::uint32_t index, What what) {
  // Where a damaged volume has counted fewer, the sums stay those of the groups.
  if (const auto free = free_inodes(group); free != 0) {
    set(group, kFreeInodes, free - 1);
    free_inodes_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (what == What::kDirectory) set_directories(group, used_directories(group) + 1);
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
  if (what == What::kDirectory && directories != 0) set_directories(group, directories - 1);
}

void GroupDescriptors::set_inodes(GroupNumber group, std::uint32_t free, std::uint32_t directories,
                                  std::uint32_t unused) {
  set(group, kFreeInodes, free);
  set_directories(group, directories);
  if (has_checksums_ && unused < get(group, kUnusedInodes)) set(group, kUnusedInodes, unused);
}

std::uint64_t GroupDescriptors::claim_clusters(std::uint64_t wanted, std::uint64_t kept) {
  std::uint64_t free = free_clusters_.load(std::memory_order_relaxed);
  while (true) {
    const std::uint64_t claimed = std::min(wanted, free - std::min(free, kept));
    if (claimed == 0 || free_clusters_.compare_exchange_weak(free, free - claimed)) return claimed;
  }
}

void GroupDescriptors::note_clusters_taken(GroupNumber group, std::uint64_t clusters, std::uint64_t claimed) {
  // Where a damaged volume has counted fewer, the sum stays that of the groups.
  const std::uint32_t free = free_clusters(group);
  const std::uint64_t counted = std::min<std::uint64_t>(free, clusters);
  set(group, kFreeClusters, static_cast<std::uint32_t>(free - counted));
  // Fewer are more beyond the highest number.
  return_claim(claimed - counted);
}

void GroupDescriptors::note_clusters_freed(GroupNumber group, std::uint64_t clusters) {
  set_free_clusters(group, static_cast<std::uint32_t>(free_clusters(group) + clusters));
}

void GroupDescriptors::set_free_clusters(GroupNumber group, std::uint32_t free) {
  free = std::min(free, fs_.super->s_clusters_per_group);
  const std::uint32_t before = free_clusters(group);
  set(group, kFreeClusters, free);
  if (free >= before) {
    free_clusters_.fetch_add(free - before, std::memory_order_relaxed);
    return;
  }
  // Never below none: on a damaged volume the sum may have been less than one of its parts.
  std::uint64_t sum = free_clusters_.load(std::memory_order_relaxed);
  while (!free_clusters_.compare_exchange_weak(sum, sum - std::min<std::uint64_t>(sum, before - free))) {
  }
}

Result<void> GroupDescriptors::write(cache::BufferCache& cache) {
  const GroupLayout layout(*fs_.super);
  std::set<GroupNumber> blocks;
  const std::size_t in_a_block = fs_.blocksize / size_;
  for (const GroupNumber group : changed_) {
    ext2fs_group_desc_csum_set(&fs_, group);
    blocks.insert(static_cast<GroupNumber>(group / in_a_block));
  }
  for (const GroupNumber index : blocks) {
    const std::uint64_t block = layout.descriptor_block_of(static_cast<GroupNumber>(index * in_a_block));
    const std::span bytes(
        reinterpret_cast<const std::byte*>(fs_.group_desc) + std::size_t{index} * fs_.blocksize,
        fs_.blocksize);
    RETURN_IF_ERROR(cache.write(block * fs_.blocksize, bytes));
  }
  changed_.clear();
  fs_.super->s_free_inodes_count = static_cast<__u32>(free_inodes());
  ext2fs_free_blocks_count_set(fs_.super, free_clusters() << fs_.cluster_ratio_bits);
  return {};
}

}  // namespace fuse4fs::ext4
