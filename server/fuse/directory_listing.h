// SPDX-License-Identifier: GPL-2.0-or-later
// The payload of READDIR and READDIRPLUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

// At most `size` bytes of entries behind `cookie`; empty at the directory's end.
Result<std::vector<std::byte>> list_directory(ext4::FileSystem& fs, ext4::InodeNumber directory,
                                              std::uint64_t cookie, std::size_t size,
                                              ext4::AccessTime access_time);
// The same with each entry's attributes; counts a look-up of every inode in it but "." and "..".
Result<std::vector<std::byte>> list_directory_with_attributes(ext4::FileSystem& fs,
                                                              ext4::InodeNumber directory,
                                                              std::uint64_t cookie, std::size_t size,
                                                              ext4::AccessTime access_time);

}  // namespace fuse4fs::fuse
