// SPDX-License-Identifier: GPL-2.0-or-later
// The operations of libfuse: FALLOCATE and COPY_FILE_RANGE; and COPY_FILE_RANGE_64, which libfuse 3.14
// does not know.
#include "server/fuse/range_operations.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <optional>

#include "server/fuse/conversions.h"
#include "server/fuse/decoded.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/mode_watch.h"
#include "server/fuse/notifications.h"
#include "server/fuse/operation_entry.h"
#include "server/fuse/operations.h"

namespace fuse4fs::fuse {
namespace {

using ext4::FileSystem;
using ext4::RangeChange;
using Privileges = ext4::AttributeChanges::Privileges;

// These requests do not say whether setuid and setgid must go. The kernel spares them for callers with
// CAP_FSETID; who that is, only the user id hints at. File capabilities go in any case: the kernel itself
// removes them before it asks.
Privileges privileges_for(uid_t caller) { return caller == 0 ? Privileges::kKeep : Privileges::kClear; }

std::optional<RangeChange> change_of(int mode) {
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
      return RangeChange::kAllocate;
    case FALLOC_FL_PUNCH_HOLE:
      return RangeChange::kPunchHole;
    case FALLOC_FL_ZERO_RANGE:
      return RangeChange::kZero;
    case FALLOC_FL_COLLAPSE_RANGE:
      return RangeChange::kCollapse;
    case FALLOC_FL_INSERT_RANGE:
      return RangeChange::kInsert;
    default:
      return std::nullopt;
  }
}

void fallocate(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t inode, int mode, off_t offset,
               off_t length, fuse_file_info*) {
  const auto change = change_of(mode);
  if (!change) return reply.error(Errno(EOPNOTSUPP));
  const bool keep = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  if (*change == RangeChange::kPunchHole && !keep) return reply.error(Errno(EOPNOTSUPP));
  if (offset < 0 || length <= 0) return reply.error(Errno(EINVAL));
  const fuse_ctx& context = *fuse_req_ctx(request);
  const Privileges privileges = privileges_for(context.uid);
  // On a mount that may be copied with other ids the kernel does not say who asks.
  const auto caller =
      context.uid == kUnknownId ? std::nullopt : std::optional(ext4::Caller{context.uid, context.gid});
  const ModeWatch watch(fs, inode, privileges);
  const auto changed = fs.change_range(
      inode_number(inode), *change, {static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(length)},
      keep ? ext4::EndOfFile::kKeep : ext4::EndOfFile::kMayMove, privileges, caller);
  if (changed)
    watch.content_changed();
  else
    // What was done before it failed stays, and the kernel would not ask for the new count of blocks.
    invalidate_attributes(inode);
  reply.outcome(changed);
}

Result<std::uint64_t> copy(FileSystem& fs, std::uint64_t from, std::uint64_t to,
                           const fuse_copy_file_range_in& in, uid_t caller) {
  // Its copy through its own page cache is as good, and it knows what lies there.
  if (CurrentRequest::connection().uses_iomap()) return fail(ENOSYS);
  if (in.flags != 0) return fail(EINVAL);
  const Privileges privileges = privileges_for(caller);
  const ModeWatch watch(fs, to, privileges);
  const auto copied =
      fs.copy_range(inode_number(from), in.off_in, inode_number(to), in.off_out, in.len, privileges);
  if (copied) watch.content_changed();
  // The kernel asks only for what lies below the size that it knows, which may be ahead of ours. It copies by
  // itself then.
  if (copied && *copied == 0 && in.len != 0) return fail(EOPNOTSUPP);
  return copied;
}

void copy_file_range(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t from, off_t from_offset,
                     fuse_file_info*, fuse_ino_t to, off_t to_offset, fuse_file_info*, std::size_t length,
                     int flags) {
  fuse_copy_file_range_in in{};
  in.off_in = static_cast<std::uint64_t>(from_offset);
  in.off_out = static_cast<std::uint64_t>(to_offset);
  // The answer has 32 bits.
  in.len = std::min<std::uint64_t>(length, UINT32_MAX & ~4095U);
  in.flags = static_cast<std::uint64_t>(flags);
  const auto copied = copy(fs, from, to, in, fuse_req_ctx(request)->uid);
  copied ? reply.written(static_cast<std::uint32_t>(*copied)) : reply.error(copied.error());
}

}  // namespace

void add_range_operations(fuse_lowlevel_ops& ops) {
  ops.fallocate = Entry<fallocate>::call;
  ops.copy_file_range = Entry<copy_file_range>::call;
}

void copy_file_range_64(FileSystem& fs, std::span<const std::byte> request) {
  Reply reply;
  const auto decoded = decode<fuse_copy_file_range_in>(request);
  if (!decoded) return reply.error(Errno(EINVAL));
  const auto& [header, in] = *decoded;
  const auto copied = copy(fs, header.nodeid, in.nodeid_out, in, header.uid);
  copied ? reply.structure(CopyFileRangeOut{*copied}) : reply.error(copied.error());
}

}  // namespace fuse4fs::fuse
