// SPDX-License-Identifier: GPL-2.0-or-later
// The POSIX ACLs of inodes, kept together with their modes.
//
// On a volume that is mounted with noacl nothing is read or set, as if there were none.
//
// Locking: as XattrStore; the mode is the inode's. `inode` is written as XattrStore does; where nothing had
// to be stored, it is not. Errors: those of XattrStore; EOPNOTSUPP for what has no ACLs, EUCLEAN (told) for
// one on the volume that is none.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "server/ext4/acl.h"
#include "server/ext4/inode.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_store.h"

namespace fuse4fs::ext4 {

class AclStore {
 public:
  AclStore(Volume& volume, XattrStore& xattrs) : volume_(volume), xattrs_(xattrs) {}

  // `name`: kAccessAclXattr or kDefaultAclXattr. Empty: there is none.
  Result<Acl> get(const Inode& inode, const XattrName& name);
  // An access ACL changes the mode; without entries, the ACL goes and the mode stays.
  Result<void> set(Inode& inode, const XattrName& name, const Acl& acl, SetgidBit setgid);

  // chmod(2): what of the ACL follows the new `mode`. Call before the mode is changed.
  Result<void> change_mode(Inode& inode, mode_t mode);
  // What `inode` gets from the directory in which it is made: its mode, and its ACLs. `umask` counts where
  // there is no default.
  Result<void> inherit(const Inode& directory, Inode& inode, mode_t umask);

 private:
  Result<XattrStore::Change> store(Inode& inode, const XattrName& name, const Acl& acl);

  Volume& volume_;
  XattrStore& xattrs_;
};

}  // namespace fuse4fs::ext4
