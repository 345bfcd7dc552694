// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: inode flags, project ids, and what concerns the whole volume: label, shutdown.
//
// Which flag may be set on what, and which errors say no, is what the kernel's ext4 does
// (tests/mount/ioctl_test.cc compares them). Capabilities are the caller's business.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "server/ext4/credits.h"
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

// Reserved for blocks behind the end of file; nobody uses it, but it may be set.
constexpr std::uint32_t kEndOfFileBlocks = 0x0040'0000;

// What FS_IOC_SETFLAGS may change.
constexpr std::uint32_t kModifiable =
    EXT2_SECRM_FL | EXT2_UNRM_FL | EXT2_COMPR_FL | EXT2_SYNC_FL | EXT2_IMMUTABLE_FL | EXT2_APPEND_FL |
    EXT2_NODUMP_FL | EXT2_NOATIME_FL | EXT3_JOURNAL_DATA_FL | EXT2_NOTAIL_FL | EXT2_DIRSYNC_FL |
    EXT2_TOPDIR_FL | EXT4_EXTENTS_FL | kEndOfFileBlocks | FS_DAX_FL | EXT4_PROJINHERIT_FL | EXT4_CASEFOLD_FL;
// What FS_IOC_GETFLAGS shows. Setting one of these that cannot be changed is silently ignored: chattr(1)
// hands back all that it read.
constexpr std::uint32_t kVisible = kModifiable | EXT2_DIRTY_FL | EXT2_COMPRBLK_FL | EXT2_NOCOMPR_FL |
                                   EXT4_ENCRYPT_FL | EXT2_INDEX_FL | EXT4_VERITY_FL | EXT4_INLINE_DATA_FL;
constexpr std::uint32_t kOnlyForDirectories =
    EXT2_DIRSYNC_FL | EXT2_TOPDIR_FL | EXT4_CASEFOLD_FL | EXT4_PROJINHERIT_FL;
constexpr std::uint32_t kForSpecialFiles = EXT2_NODUMP_FL | EXT2_NOATIME_FL;
// A file mapped straight from the device can be none of these.
constexpr std::uint32_t kExcludesDax =
    EXT4_VERITY_FL | EXT4_ENCRYPT_FL | EXT3_JOURNAL_DATA_FL | EXT4_INLINE_DATA_FL;
constexpr std::uint32_t kXattrMagic = 0xEA02'0000;
constexpr std::size_t kProjectEnd = offsetof(ext2_inode_large, i_projid) + sizeof(std::uint32_t);

std::uint32_t that_fit(const Inode& inode, std::uint32_t flags) {
  if (inode.is_directory()) return flags;
  return flags & (inode.is_regular() ? ~kOnlyForDirectories : kForSpecialFiles);
}

bool dax_fits(const Inode& inode, std::uint32_t flags) {
  std::uint32_t excluding = kExcludesDax;
  if (inode.is_directory()) excluding &= ~static_cast<std::uint32_t>(EXT4_INLINE_DATA_FL);
  if ((flags & FS_DAX_FL) != 0 && inode.has(excluding)) return false;
  return (flags & excluding) == 0 || !inode.has(FS_DAX_FL);
}

}  // namespace

std::string Ext4FileSystem::label() const { return volume_->label(); }

Result<InodeFlags> Ext4FileSystem::flags(InodeNumber number) {
  RETURN_IF_ERROR(volume_->check_alive());
  const auto held = metadata_.inodes.lock_shared(number);
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
  std::uint32_t shown = inode.raw.i_flags & kVisible;
  if (inode.is_regular()) shown &= ~static_cast<std::uint32_t>(EXT4_PROJINHERIT_FL);
  return InodeFlags{.flags = shown, .project = inode.project(volume_->super())};
}

Result<void> Ext4FileSystem::set_flags_unsynced(InodeNumber number, std::uint32_t wanted) {
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  if ((wanted & ~kVisible) != 0) return fail(EOPNOTSUPP);
  const std::uint32_t before = inode.raw.i_flags;
  std::uint32_t flags = wanted & kModifiable;
  if (that_fit(inode, flags) != flags) return fail(EOPNOTSUPP);
  // An immutable inode must cease to be one before anything else of it changes.
  if ((before & flags & EXT2_IMMUTABLE_FL) != 0 && before != flags) return fail(EPERM);
  if (!dax_fits(inode, flags)) return fail(EOPNOTSUPP);
  const std::uint32_t changed = (before ^ flags) & kModifiable;
  // Between extents and indirect blocks is a rewrite of the whole map: e2fsck -E bmap2extent does that.
  if ((changed & EXT4_EXTENTS_FL) != 0) return fail(EOPNOTSUPP);
  // Names of such a directory compare without case, which no directory here does.
  if ((changed & EXT4_CASEFOLD_FL) != 0) return fail(EOPNOTSUPP);
  if ((changed & EXT3_JOURNAL_DATA_FL) != 0 && !ext2fs_has_feature_journal(volume_->super_pointer()))
    flags ^= EXT3_JOURNAL_DATA_FL;  // no journal, no journaled data: ignored
  const auto handle = volume_->journal().start(credits::of_attributes);
  inode.raw.i_flags = (before & ~kModifiable) | flags;
  inode.touch_changed();
  return metadata_.inodes.write(inode);
}

Result<void> Ext4FileSystem::set_project_unsynced(InodeNumber number, std::uint32_t project) {
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  const auto& super = volume_->super();
  if (inode.project(super) == project) return {};
  if (!ext2fs_has_feature_project(volume_->super_pointer())) return fail(EOPNOTSUPP);
  if (EXT2_INODE_SIZE(&super) < kProjectEnd) return fail(EOPNOTSUPP);
  // -1 stands for no project at all.
  if (project == UINT32_MAX) return fail(EINVAL);
  if (inode.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  const auto handle = volume_->journal().start(credits::of_attributes);
  if (std::size_t{EXT2_GOOD_OLD_INODE_SIZE} + inode.raw.i_extra_isize < kProjectEnd) {
    // Made by an old kernel that knew less fields. Its extended attributes would be in the way.
    const std::size_t end = EXT2_GOOD_OLD_INODE_SIZE + inode.raw.i_extra_isize;
    std::uint32_t behind = 0;
    std::memcpy(&behind, reinterpret_cast<const std::byte*>(&inode.raw) + end, sizeof behind);
    if (behind == kXattrMagic) return fail(EOPNOTSUPP);
    std::memset(reinterpret_cast<std::byte*>(&inode.raw) + end, 0, kProjectEnd - end);
    inode.raw.i_extra_isize = kProjectEnd - EXT2_GOOD_OLD_INODE_SIZE;
  }
  inode.raw.i_projid = project;
  inode.touch_changed();
  return metadata_.inodes.write(inode);
}

Result<void> Ext4FileSystem::set_label(std::string_view label) {
  RETURN_IF_ERROR(volume_->check_writable());
  if (label.size() > sizeof(ext2_super_block::s_volume_name)) return fail(EINVAL);
  return volume_->set_label(label);
}

Result<void> Ext4FileSystem::shut_down(ShutdownMode mode) {
  // A second time changes nothing.
  if (!volume_->check_alive()) return {};
  return volume_->shut_down(mode);
}

}  // namespace fuse4fs::ext4
