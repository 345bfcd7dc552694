// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: extended attributes and ACLs.
#include "server/ext4/credits.h"
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kLongestValue = 64 << 10;  // bytes; XATTR_SIZE_MAX of the system calls

bool is_acl(const XattrName& name) {
  return name.index == XattrIndex::kAccessAcl || name.index == XattrIndex::kDefaultAcl;
}

Result<XattrName> parse_name(std::string_view name) {
  const auto parts = split_xattr_name(name);
  if (!parts) return fail(EOPNOTSUPP);
  if (parts->suffix.empty() && !is_acl(*parts)) return fail(EINVAL);
  return *parts;
}

// What the kernel asks of an inode before it calls ext4.
Result<void> may_change(const Inode& inode) {
  if (inode.has(EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) return fail(EPERM);
  return {};
}

}  // namespace

Result<std::vector<std::byte>> Ext4FileSystem::xattr(InodeNumber number, std::string_view name) {
  ASSIGN_OR_RETURN(const XattrName parts, parse_name(name));
  RETURN_IF_ERROR(volume_->check_alive());
  const auto held = metadata_.inodes.lock_shared(number);
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
  if (is_acl(parts)) {
    ASSIGN_OR_RETURN(const Acl acl, metadata_.acls.get(inode, parts));
    if (acl.empty()) return fail(ENODATA);
    return acl_to_system_call(acl);
  }
  ASSIGN_OR_RETURN(auto value, metadata_.xattrs.get(inode, parts));
  if (!value) return fail(ENODATA);
  return std::move(*value);
}

Result<std::string> Ext4FileSystem::xattr_names(InodeNumber number) {
  RETURN_IF_ERROR(volume_->check_alive());
  const auto held = metadata_.inodes.lock_shared(number);
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
  ASSIGN_OR_RETURN(const auto entries, metadata_.xattrs.list(inode));
  std::string names;
  for (const auto& entry : entries) {
    const auto name = full_xattr_name(entry);
    if (!name || (!volume_->has_acls() && (entry.is(kAccessAclXattr) || entry.is(kDefaultAclXattr))))
      continue;
    names += *name;
    names += '\0';
  }
  return names;
}

Result<void> Ext4FileSystem::set_xattr_unsynced(InodeNumber number, std::string_view name,
                                                std::span<const std::byte> value, XattrMode mode,
                                                SetgidBit setgid) {
  ASSIGN_OR_RETURN(const XattrName parts, parse_name(name));
  if (value.size() > kLongestValue) return fail(E2BIG);
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  RETURN_IF_ERROR(may_change(inode));
  const auto handle = volume_->journal().start(credits::of_xattr(kLongestValue, volume_->block_size()));
  if (is_acl(parts)) {
    ASSIGN_OR_RETURN(const Acl acl, acl_from_system_call(value));
    return metadata_.acls.set(inode, parts, acl, setgid);
  }
  inode.touch_changed();
  RETURN_IF_ERROR(metadata_.xattrs.set(inode, parts, value, mode));
  return {};
}

Result<void> Ext4FileSystem::remove_xattr_unsynced(InodeNumber number, std::string_view name) {
  ASSIGN_OR_RETURN(const XattrName parts, parse_name(name));
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  RETURN_IF_ERROR(may_change(inode));
  const auto handle = volume_->journal().start(credits::of_xattr(kLongestValue, volume_->block_size()));
  if (is_acl(parts)) return metadata_.acls.set(inode, parts, {}, SetgidBit::kKeep);
  inode.touch_changed();
  ASSIGN_OR_RETURN(const auto change, metadata_.xattrs.remove(inode, parts));
  if (change == XattrStore::Change::kNone) return fail(ENODATA);
  return {};
}

}  // namespace fuse4fs::ext4
