// SPDX-License-Identifier: GPL-2.0-or-later
// The operations of libfuse: extended attributes and ACLs.
#include "server/fuse/operation_entry.h"
#include "server/fuse/operations.h"

namespace fuse4fs::fuse {

void add_xattr_operations(fuse_lowlevel_ops&) {}

}  // namespace fuse4fs::fuse
