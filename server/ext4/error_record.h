// SPDX-License-Identifier: GPL-2.0-or-later
// The superblock's memory of what went wrong: s_state, and the first and the last error with their places.
#pragma once

#include <cstdint>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

struct ErrorRecord {
  int error = 0;            // errno: EIO, EUCLEAN, EBADMSG (a checksum), others are "unknown"
  std::uint32_t inode = 0;  // 0: none
  std::uint64_t block = 0;  // 0: none
};

// Only the structure is changed; its checksum and the writing are the caller's.
void note_error(ext2_super_block& super, const ErrorRecord& record);

}  // namespace fuse4fs::ext4
