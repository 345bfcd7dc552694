// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: fallocate, seek and copy_file_range. FITRIM is trim.cc.
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {

Result<void> Ext4FileSystem::change_range(InodeNumber inode, RangeChange change, ByteRange range,
                                          EndOfFile end_of_file, AttributeChanges::Privileges privileges) {
  return data_.change_range(inode, change, range, end_of_file, privileges);
}

Result<std::uint64_t> Ext4FileSystem::seek(InodeNumber inode, std::uint64_t offset, SeekTarget target) {
  return data_.seek(inode, offset, target);
}

Result<std::uint64_t> Ext4FileSystem::copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                                 std::uint64_t to_offset, std::uint64_t length,
                                                 AttributeChanges::Privileges privileges) {
  return data_.copy_range(from, from_offset, to, to_offset, length, privileges);
}

}  // namespace fuse4fs::ext4
