// SPDX-License-Identifier: GPL-2.0-or-later
// The mode that is shown of an inode with a POSIX ACL, as long as ACLs themselves are not served.
//
// With an ACL, the mode's group bits hold the ACL's mask: what anybody named in it may have at most. Taken as
// they are they would give the owning group rights that its own entry denies.
//
// Locking: the metadata lock. Errors: none; what cannot be read or makes no sense gives the group nothing.
#pragma once

#include <sys/types.h>

#include "server/ext4/inode.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

// Never more rights than the inode's own mode.
mode_t shown_mode(Volume& volume, const Inode& inode);

}  // namespace fuse4fs::ext4
