// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: fallocate, seek, copy_file_range and trim.
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {

Result<void> Ext4FileSystem::change_range(InodeNumber, RangeChange, ByteRange, EndOfFile) {
  return fail(ENOSYS);
}
Result<std::uint64_t> Ext4FileSystem::seek(InodeNumber, std::uint64_t, SeekTarget) { return fail(ENOSYS); }
Result<std::uint64_t> Ext4FileSystem::copy_range(InodeNumber, std::uint64_t, InodeNumber, std::uint64_t,
                                                 std::uint64_t) {
  return fail(ENOSYS);
}
Result<std::uint64_t> Ext4FileSystem::trim(ByteRange, std::uint64_t) { return fail(ENOSYS); }

}  // namespace fuse4fs::ext4
