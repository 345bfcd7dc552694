// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: extended attributes and ACLs.
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {

Result<std::vector<std::byte>> Ext4FileSystem::xattr(InodeNumber, std::string_view) { return fail(ENOSYS); }
Result<std::string> Ext4FileSystem::xattr_names(InodeNumber) { return fail(ENOSYS); }
Result<void> Ext4FileSystem::set_xattr(InodeNumber, std::string_view, std::span<const std::byte>, XattrMode,
                                       SetgidBit) {
  return fail(ENOSYS);
}
Result<void> Ext4FileSystem::remove_xattr(InodeNumber, std::string_view) { return fail(ENOSYS); }

}  // namespace fuse4fs::ext4
