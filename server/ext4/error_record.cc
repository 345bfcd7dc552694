// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/error_record.h"

#include <algorithm>
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
  super.s_state = static_cast<__u16>((super.s_state | EXT2_ERROR_FS) & ~EXT2_VALID_FS);
  const std::int64_t now = record.seconds != 0 ? record.seconds : std::time(nullptr);
  // The format has the first error and the last one, in fields of the same form.
  const auto note = [&](auto& time, auto& time_high, auto& inode, auto& block, auto& line, auto& code,
                        auto& where) {
    constexpr std::string_view kWhere = "fuse4fs";
    time = static_cast<__u32>(now);
    time_high = static_cast<__u8>(now >> 32);
    inode = record.inode;
    block = record.block;
    line = 0;
    code = code_of(record.error);
    std::memset(where, 0, sizeof where);
    std::memcpy(where, kWhere.data(), kWhere.size());
  };
  if (super.s_error_count == 0)
    note(super.s_first_error_time, super.s_first_error_time_hi, super.s_first_error_ino,
         super.s_first_error_block, super.s_first_error_line, super.s_first_error_errcode,
         super.s_first_error_func);
  note(super.s_last_error_time, super.s_last_error_time_hi, super.s_last_error_ino, super.s_last_error_block,
       super.s_last_error_line, super.s_last_error_errcode, super.s_last_error_func);
  if (super.s_error_count != UINT32_MAX) ++super.s_error_count;
}

void WaitingErrors::add(ErrorRecord record) {
  record.seconds = std::time(nullptr);
  if (count_ == 0) first_ = record;
  last_ = record;
  if (count_ != UINT32_MAX) ++count_;
}

void WaitingErrors::note_in(ext2_super_block& super) const {
  if (count_ == 0) return;
  note_error(super, first_);
  if (count_ == 1) return;
  note_error(super, last_);
  const std::uint32_t others = count_ - 2;
  super.s_error_count += std::min(others, UINT32_MAX - super.s_error_count);
}

}  // namespace fuse4fs::ext4
