// SPDX-License-Identifier: GPL-2.0-or-later
// SETXATTR, decoded here: libfuse 3.14 does not know the longer form of the request, which says whether an
// ACL takes the setgid bit away.
#pragma once

#include <cstddef>
#include <span>

#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

// What was agreed on in INIT: FUSE_SETXATTR_EXT or not.
enum class SetxattrForm { kShort, kExtended };

void set_xattr(ext4::FileSystem& fs, std::span<const std::byte> request, SetxattrForm form);

}  // namespace fuse4fs::fuse
