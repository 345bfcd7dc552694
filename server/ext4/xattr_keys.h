// SPDX-License-Identifier: GPL-2.0-or-later
// The little that the engine itself needs of extended attributes, over libext2fs, with the places checked
// first.
//
// Locking: the metadata lock. The functions read and write the inode on the volume: write yours before, read
// it again after.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/ext4/inode.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

// Full names: "security.capability", "system.data".
Result<std::optional<std::string>> get_xattr(Volume& volume, const Inode& inode, std::string_view name);
// The value of the ACL that rules access, in the volume's own form. Values in inodes of their own are empty.
Result<std::optional<std::vector<std::byte>>> access_acl(Volume& volume, const Inode& inode);
Result<void> set_xattr(Volume& volume, const Inode& inode, std::string_view name, std::string_view value);
// Nothing happens where it is not there.
Result<void> remove_xattr(Volume& volume, const Inode& inode, std::string_view name);
Result<void> remove_all_xattrs(Volume& volume, const Inode& inode);

}  // namespace fuse4fs::ext4
