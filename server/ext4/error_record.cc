// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/error_record.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <string_view>

namespace fuse4fs::ext4 {
namespace {

// The numbers that the format gives to errors; what dumpe2fs calls UNKNOWN, EIO, EFSBADCRC and EFSCORRUPTED.
__u8 code_of(int error) {
  switch (error) {
    case EIO:
      return 2;
    case EBADMSG:
      return 4;
    case EUCLEAN:
      return 5;
    default:
      return 1;
  }
}

}  // namespace

void note_error(ext2_super_block& super, const ErrorRecord& record) {
  constexpr std::string_view kWhere = "fuse4fs";
  const auto now = std::time(nullptr);
  super.s_state = static_cast<__u16>((super.s_state | EXT2_ERROR_FS) & ~EXT2_VALID_FS);
  if (super.s_error_count == 0) {
    super.s_first_error_time = static_cast<__u32>(now);
    super.s_first_error_time_hi = static_cast<__u8>(now >> 32);
    super.s_first_error_ino = record.inode;
    super.s_first_error_block = record.block;
    super.s_first_error_line = 0;
    super.s_first_error_errcode = code_of(record.error);
    std::memset(super.s_first_error_func, 0, sizeof super.s_first_error_func);
    std::memcpy(super.s_first_error_func, kWhere.data(), kWhere.size());
  }
  super.s_last_error_time = static_cast<__u32>(now);
  super.s_last_error_time_hi = static_cast<__u8>(now >> 32);
  super.s_last_error_ino = record.inode;
  super.s_last_error_block = record.block;
  super.s_last_error_line = 0;
  super.s_last_error_errcode = code_of(record.error);
  std::memset(super.s_last_error_func, 0, sizeof super.s_last_error_func);
  std::memcpy(super.s_last_error_func, kWhere.data(), kWhere.size());
  if (super.s_error_count != UINT32_MAX) ++super.s_error_count;
}

}  // namespace fuse4fs::ext4
