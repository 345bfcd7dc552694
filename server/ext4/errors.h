// SPDX-License-Identifier: GPL-2.0-or-later
// The one place where libext2fs's numbers become ours.
#pragma once

#include "base/errno.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

// `code` is not 0.
Errno from_ext2(errcode_t code);
// Whether the code says that the volume's own structures are wrong, as opposed to full, absent or unreadable.
bool is_corruption(errcode_t code);

}  // namespace fuse4fs::ext4
