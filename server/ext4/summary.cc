// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/summary.h"

#include <sys/stat.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

// Descriptor blocks that follow a group's superblock, or stand alone with meta_bg.
std::uint64_t descriptor_blocks(struct_ext2_filsys& fs, dgrp_t group, bool has_super) {
  const auto& super = *fs.super;
  const auto per_block = static_cast<dgrp_t>(EXT2_DESC_PER_BLOCK(fs.super));
  const bool meta = ext2fs_has_feature_meta_bg(fs.super) != 0;
  if (!meta || group / per_block < super.s_first_meta_bg) {
    if (!has_super) return 0;
    return meta ? super.s_first_meta_bg : fs.desc_blocks;
  }
  const dgrp_t inside = group % per_block;
  return inside == 0 || inside == 1 || inside == per_block - 1 ? 1 : 0;
}

std::uint64_t journal_blocks(struct_ext2_filsys& fs) {
  if (!ext2fs_has_feature_journal(fs.super) || fs.super->s_journal_inum == 0) return 0;
  if (fs.super->s_journal_inum > fs.super->s_inodes_count) return 0;
  ext2_inode inode{};
  if (ext2fs_read_inode(&fs, fs.super->s_journal_inum, &inode) != 0) return 0;
  if (inode.i_links_count == 0 || !S_ISREG(inode.i_mode)) return 0;
  const std::uint64_t size = inode.i_size | static_cast<std::uint64_t>(inode.i_size_high) << 32;
  return std::min<std::uint64_t>(size / fs.blocksize, ext2fs_blocks_count(fs.super));
}

// With clusters several structures may share one, so those that are touched are counted, group by group. As
// in the kernel a structure counts in the group where it lies, a table that crosses its end nowhere, and
// reserved descriptor blocks not at all.
std::uint64_t touched_clusters(struct_ext2_filsys& fs) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;  // first and last cluster
  const std::uint64_t first_data = fs.super->s_first_data_block;
  const std::uint64_t group_blocks = fs.super->s_blocks_per_group;
  const auto note = [&](std::uint64_t block, std::uint64_t count, bool whole_in_group) {
    if (block < first_data || count == 0) return;
    const std::uint64_t begin = first_data + (block - first_data) / group_blocks * group_blocks;
    if (whole_in_group && block + count > begin + group_blocks - 1) return;
    // Clusters are counted from the group's begin.
    const std::uint64_t base = begin >> fs.cluster_ratio_bits;
    runs.emplace_back(base + ((block - begin) >> fs.cluster_ratio_bits),
                      base + ((block + count - 1 - begin) >> fs.cluster_ratio_bits));
  };
  for (dgrp_t group = 0; group < fs.group_desc_count; ++group) {
    note(ext2fs_block_bitmap_loc(&fs, group), 1, false);
    note(ext2fs_inode_bitmap_loc(&fs, group), 1, false);
    note(ext2fs_inode_table_loc(&fs, group), fs.inode_blocks_per_group, true);
    const bool has_super = ext2fs_bg_has_super(&fs, group) != 0;
    note(first_data + group * group_blocks, has_super + descriptor_blocks(fs, group, has_super), false);
  }
  std::sort(runs.begin(), runs.end());
  std::uint64_t count = 0;
  std::uint64_t behind = 0;  // all before it is counted
  for (const auto& [first, last] : runs) {
    const std::uint64_t from = std::max(first, behind);
    if (last < from) continue;
    count += last - from + 1;
    behind = last + 1;
  }
  return count;
}

}  // namespace

void count_free(struct_ext2_filsys& fs) {
  std::uint64_t clusters = 0;
  std::uint64_t inodes = 0;
  for (dgrp_t group = 0; group < fs.group_desc_count; ++group) {
    clusters += std::min(ext2fs_bg_free_blocks_count(&fs, group), fs.super->s_clusters_per_group);
    inodes += std::min(ext2fs_bg_free_inodes_count(&fs, group), fs.super->s_inodes_per_group);
  }
  ext2fs_free_blocks_count_set(
      fs.super, std::min<std::uint64_t>(clusters << fs.cluster_ratio_bits, ext2fs_blocks_count(fs.super)));
  fs.super->s_free_inodes_count =
      static_cast<__u32>(std::min<std::uint64_t>(inodes, fs.super->s_inodes_count));
}

std::uint64_t overhead_clusters(struct_ext2_filsys& fs) {
  const auto& super = *fs.super;
  const bool bigalloc = ext2fs_has_feature_bigalloc(fs.super) != 0;
  if (bigalloc && super.s_overhead_clusters != 0 &&
      super.s_overhead_clusters <= ext2fs_blocks_count(fs.super))
    return super.s_overhead_clusters;
  const std::uint64_t cluster_blocks = std::uint64_t{1} << fs.cluster_ratio_bits;
  std::uint64_t count = super.s_first_data_block >> fs.cluster_ratio_bits;
  count += (journal_blocks(fs) + cluster_blocks - 1) >> fs.cluster_ratio_bits;
  if (bigalloc) return count + touched_clusters(fs);
  constexpr std::uint64_t kBitmaps = 2;
  for (dgrp_t group = 0; group < fs.group_desc_count; ++group) {
    const bool has_super = ext2fs_bg_has_super(&fs, group) != 0;
    count += descriptor_blocks(fs, group, has_super) + fs.inode_blocks_per_group + kBitmaps;
    if (has_super) count += 1 + super.s_reserved_gdt_blocks;
  }
  return count;
}

Result<void> count_all(Volume& volume) {
  auto& groups = volume.groups();
  auto& bitmaps = volume.inode_bitmaps();
  auto& fs = *volume.fs();
  const std::uint32_t per_group = fs.super->s_inodes_per_group;
  std::vector<std::uint32_t> directories(groups.count());
  std::vector<std::uint32_t> unused(groups.count(), per_group);
  for (InodeNumber next = 1;;) {
    ASSIGN_OR_RETURN(const InodeNumber number, bitmaps.next_in_use(next));
    if (number == 0) break;
    next = number + 1;
    ext2_inode inode{};
    RETURN_IF_ERROR(volume.read_inode(number, std::as_writable_bytes(std::span(&inode, 1))));
    const GroupNumber group = bitmaps.group_of(number);
    unused[group] = per_group - 1 - (number - 1) % per_group;
    if (S_ISDIR(inode.i_mode)) ++directories[group];
  }
  std::uint64_t free_inodes = 0;
  for (GroupNumber group = 0; group < groups.count(); ++group) {
    ASSIGN_OR_RETURN(const std::uint32_t free, bitmaps.count_free(group));
    free_inodes += free;
    groups.set_inodes(group, free, directories[group], unused[group]);
    volume.block_bitmaps().blocks().read_ahead(group);
    ASSIGN_OR_RETURN(const std::uint32_t clusters, volume.block_bitmaps().count_free(group));
    groups.set_free_clusters(group, clusters);
    groups.note_changed(group);
  }
  groups.set_free_inodes(free_inodes);
  ext2fs_mark_super_dirty(&fs);
  return {};
}

}  // namespace fuse4fs::ext4
