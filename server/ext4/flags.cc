// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: inode flags, project ids, and what concerns the whole volume: label, shutdown.
#include <cstring>

#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {

std::array<std::byte, 16> Ext4FileSystem::uuid() const {
  std::array<std::byte, 16> bytes;
  std::memcpy(bytes.data(), volume_->super().s_uuid, bytes.size());
  return bytes;
}

Result<InodeFlags> Ext4FileSystem::flags(InodeNumber) { return fail(ENOSYS); }
Result<void> Ext4FileSystem::set_flags(InodeNumber, std::uint32_t) { return fail(ENOSYS); }
Result<void> Ext4FileSystem::set_project(InodeNumber, std::uint32_t) { return fail(ENOSYS); }
Result<void> Ext4FileSystem::set_label(std::string_view) { return fail(ENOSYS); }
Result<void> Ext4FileSystem::shut_down(ShutdownMode) { return fail(ENOSYS); }

}  // namespace fuse4fs::ext4
