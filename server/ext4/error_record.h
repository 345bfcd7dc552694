// SPDX-License-Identifier: GPL-2.0-or-later
// The superblock's memory of what went wrong: s_state, and the first and the last error with their places.
#pragma once

#include <cstdint>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

struct ErrorRecord {
  int error = 0;             // errno: EIO, EUCLEAN, EBADMSG (a checksum), others are "unknown"
  std::uint32_t inode = 0;   // 0: none
  std::uint64_t block = 0;   // 0: none
  std::int64_t seconds = 0;  // since 1970; 0: when it is noted
};

// Only the structure is changed; its checksum and the writing are the caller's.
void note_error(ext2_super_block& super, const ErrorRecord& record);

// Errors that wait to be noted: as many as the superblock tells apart, and the count of all.
class WaitingErrors {
 public:
  void add(ErrorRecord record);
  [[nodiscard]] bool empty() const { return count_ == 0; }
  // As if each had been noted by itself.
  void note_in(ext2_super_block& super) const;

 private:
  ErrorRecord first_, last_;
  std::uint32_t count_ = 0;
};

}  // namespace fuse4fs::ext4
