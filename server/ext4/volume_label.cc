// SPDX-License-Identifier: GPL-2.0-or-later
// Volume: the label in the superblock and its backups.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <span>

#include "server/ext4/credits.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

void put_label(ext2_super_block& super, std::string_view label) {
  std::memset(super.s_volume_name, 0, sizeof super.s_volume_name);
  std::memcpy(super.s_volume_name, label.data(), std::min(label.size(), sizeof super.s_volume_name));
}

}  // namespace

Result<void> Volume::set_label(std::string_view label) {
  {
    const auto handle = journal_.start(credits::of_superblock);
    const std::lock_guard lock(superblock_);
    put_label(*fs_->super, label);
    label_ = label;
    ext2fs_mark_super_dirty(fs_);
  }
  for (dgrp_t group = 1; group < fs_->group_desc_count; ++group) {
    blk64_t block = 0;
    ext2fs_super_and_bgd_loc2(fs_, group, &block, nullptr, nullptr, nullptr);
    if (block == 0) continue;
    // Each by itself: there may be many, and a volume is whole with any of them.
    const auto handle = journal_.start(credits::of_superblock);
    const std::lock_guard lock(superblock_);
    const std::uint64_t offset = block << block_bits_;
    ext2_super_block backup{};
    RETURN_IF_ERROR(cache_.read(offset, std::as_writable_bytes(std::span(&backup, 1))));
    // One that is broken or of another volume stays as it is: e2fsck is to see it.
    const bool is_ours = backup.s_magic == EXT2_SUPER_MAGIC &&
                         std::ranges::equal(backup.s_uuid, fs_->super->s_uuid) &&
                         (!has_checksums() || ext2fs_superblock_csum_verify(fs_, &backup) != 0);
    if (!is_ours) continue;
    put_label(backup, label);
    if (has_checksums()) ext2fs_superblock_csum_set(fs_, &backup);
    RETURN_IF_ERROR(journal_.write(block, 0, std::as_bytes(std::span(&backup, 1)), 0));
  }
  // At once, as the kernel does: it is there for others who read the device.
  return write_out();
}

}  // namespace fuse4fs::ext4
