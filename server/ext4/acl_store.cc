// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/acl_store.h"

namespace fuse4fs::ext4 {
namespace {

constexpr mode_t kPermissions = S_IRWXU | S_IRWXG | S_IRWXO;

}  // namespace

Result<Acl> AclStore::get(const Inode& inode, const XattrName& name) {
  if (!volume_.has_acls() || inode.is_symlink()) return fail(EOPNOTSUPP);
  ASSIGN_OR_RETURN(const auto value, xattrs_.get(inode, name));
  if (!value || value->empty()) return Acl();
  auto acl = acl_from_volume(*value);
  if (!acl) return fail(volume_.corrupted(inode.number, 0, "an access control list that is none"));
  return std::move(*acl);
}

Result<XattrStore::Change> AclStore::store(Inode& inode, const XattrName& name, const Acl& acl) {
  if (acl.empty()) return xattrs_.remove(inode, name);
  return xattrs_.set(inode, name, acl_to_volume(acl), XattrMode::kCreateOrReplace);
}

Result<void> AclStore::set(Inode& inode, const XattrName& name, const Acl& acl, SetgidBit setgid) {
  if (!volume_.has_acls() || inode.is_symlink()) return fail(EOPNOTSUPP);
  const bool is_default = name.index == XattrIndex::kDefaultAcl;
  if (is_default && !inode.is_directory()) return acl.empty() ? Result<void>() : fail(EACCES);
  if (!acl.empty() && !is_valid_acl(acl)) return fail(EINVAL);
  Inode changed = inode;
  Acl stored = acl;
  if (!is_default && !acl.empty()) {
    const AclMode mode = mode_of_acl(acl);
    mode_t bits = (inode.mode() & ~kPermissions) | mode.permissions;
    if (setgid == SetgidBit::kClear) bits &= ~static_cast<mode_t>(S_ISGID);
    changed.raw.i_mode = static_cast<std::uint16_t>(bits);
    if (mode.says_all) stored.clear();
  }
  changed.touch_changed();
  ASSIGN_OR_RETURN(const auto change, store(changed, name, stored));
  if (change == XattrStore::Change::kNone) {
    if (changed.mode() == inode.mode()) return {};
    RETURN_IF_ERROR(volume_.write_inode(changed));
  }
  inode = changed;
  return {};
}

Result<void> AclStore::change_mode(Inode& inode, mode_t mode) {
  if (!volume_.has_acls() || inode.is_symlink()) return {};
  ASSIGN_OR_RETURN(Acl acl, get(inode, kAccessAclXattr));
  if (acl.empty()) return {};
  RETURN_IF_ERROR(change_acl_mode(acl, mode));
  if (mode_of_acl(acl).says_all) acl.clear();
  RETURN_IF_ERROR(store(inode, kAccessAclXattr, acl));
  return {};
}

Result<void> AclStore::inherit(const Inode& directory, Inode& inode, mode_t umask) {
  if (inode.is_symlink()) return {};
  Acl acl;
  if (volume_.has_acls()) {
    auto& known = xattrs_.default_acls();
    if (auto found = known.find(directory.number)) {
      acl = *std::move(found);
    } else {
      ASSIGN_OR_RETURN(acl, get(directory, kDefaultAclXattr));
      known.keep(directory.number, acl);
    }
  }
  if (acl.empty()) {
    inode.raw.i_mode = static_cast<std::uint16_t>(inode.mode() & ~(umask & kPermissions));
    return {};
  }
  const Acl from_above = acl;
  ASSIGN_OR_RETURN(const InheritedMode own, inherit_acl(acl, inode.mode()));
  inode.raw.i_mode = static_cast<std::uint16_t>(own.mode);
  if (inode.is_directory()) RETURN_IF_ERROR(store(inode, kDefaultAclXattr, from_above));
  if (!own.says_all) RETURN_IF_ERROR(store(inode, kAccessAclXattr, acl));
  return {};
}

}  // namespace fuse4fs::ext4
