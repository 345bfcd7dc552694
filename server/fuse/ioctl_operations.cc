// SPDX-License-Identifier: GPL-2.0-or-later
// The operations of libfuse: IOCTL and BMAP.
//
// A FUSE mount's ioctls are "restricted": the kernel copies as many bytes in and out as the number itself
// says, and nothing that the caller's memory points to. Flags and project ids come through the kernel's own
// fileattr path, which has checked who asks (owner, CAP_LINUX_IMMUTABLE). All others come as they are, so
// that the right to do what is a system administrator's is checked here: user id 0, which an idmapped mount
// does not send (see negotiation.h), so that nobody has it there.
#include <linux/fs.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/notifications.h"
#include "server/fuse/operation_entry.h"
#include "server/fuse/operations.h"

namespace fuse4fs::fuse {
namespace {

using ext4::FileSystem;

// What a program of 32 bits says for the same; and ext4's own numbers of old.
constexpr unsigned kOldGetVersion = _IOR('f', 3, long);
constexpr unsigned kOldGetVersion32 = _IOR('f', 3, int);
constexpr unsigned kOldSetVersion = _IOW('f', 4, long);
constexpr unsigned kOldSetVersion32 = _IOW('f', 4, int);
// The kernel's header has it only since 6.10.
constexpr unsigned kShutdown = _IOR('X', 125, std::uint32_t);

constexpr std::size_t kLabelRoom = 17;  // 16 bytes and a NUL, as much as ext4 reads and writes

struct FlagPair {
  std::uint32_t flag, xflag;
};
constexpr FlagPair kFlagPairs[] = {
    {FS_SYNC_FL, FS_XFLAG_SYNC},       {FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
    {FS_APPEND_FL, FS_XFLAG_APPEND},   {FS_NODUMP_FL, FS_XFLAG_NODUMP},
    {FS_NOATIME_FL, FS_XFLAG_NOATIME}, {FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT},
    {FS_DAX_FL, FS_XFLAG_DAX},
};

// One call, with what the kernel copied in.
struct Call {
  FileSystem& fs;
  Reply& reply;
  const fuse_ctx& caller;
  ext4::InodeNumber inode;
  std::span<const std::byte> in;
  std::size_t out_room;

  [[nodiscard]] bool is_administrator() const { return caller.uid == 0; }
  template <class Struct>
  bool take(Struct& into) const {
    if (in.size() < sizeof into) return false;
    std::memcpy(&into, in.data(), sizeof into);
    return true;
  }
  // More than the caller has room for would be refused by the kernel.
  void give(std::span<const std::byte> bytes) const {
    reply.ioctl(bytes.first(std::min(bytes.size(), out_room)));
  }
  template <class Struct>
  void give(const Struct& value) const {
    give(std::as_bytes(std::span(&value, 1)));
  }
  void done(const Result<void>& result) const { result ? reply.ioctl({}) : reply.error(result.error()); }
  // The inode has a new ctime, which the kernel does not think of by itself.
  void inode_changed(const Result<void>& result) const {
    invalidate_attributes(node_id(inode));
    done(result);
  }
};

void get_flags(const Call& call) {
  const auto flags = call.fs.flags(call.inode);
  flags ? call.give(flags->flags) : call.reply.error(flags.error());
}

// FS_JOURNAL_DATA_FL is for CAP_SYS_RESOURCE, which the kernel leaves to the file system.
bool may_change(const Call& call, std::uint32_t before, std::uint32_t after) {
  return ((before ^ after) & FS_JOURNAL_DATA_FL) == 0 || call.is_administrator();
}

void set_flags(const Call& call) {
  std::uint32_t wanted = 0;
  if (!call.take(wanted)) return call.reply.error(Errno(EINVAL));
  const auto before = call.fs.flags(call.inode);
  if (!before) return call.reply.error(before.error());
  if (!may_change(call, before->flags, wanted)) return call.reply.error(Errno(EPERM));
  call.inode_changed(call.fs.set_flags(call.inode, wanted));
}

void get_xflags(const Call& call) {
  const auto flags = call.fs.flags(call.inode);
  if (!flags) return call.reply.error(flags.error());
  fsxattr out{};
  for (const FlagPair& pair : kFlagPairs)
    if ((flags->flags & pair.flag) != 0) out.fsx_xflags |= pair.xflag;
  out.fsx_projid = flags->project;
  call.give(out);
}

void set_xflags(const Call& call) {
  fsxattr wanted{};
  if (!call.take(wanted)) return call.reply.error(Errno(EINVAL));
  const auto before = call.fs.flags(call.inode);
  if (!before) return call.reply.error(before.error());
  std::uint32_t flags = before->flags;
  for (const FlagPair& pair : kFlagPairs)
    flags = (wanted.fsx_xflags & pair.xflag) != 0 ? flags | pair.flag : flags & ~pair.flag;
  // What is immutable cannot change its project: the flag goes first, or comes last.
  const bool becomes_immutable = (flags & ~before->flags & FS_IMMUTABLE_FL) != 0;
  Result<void> done;
  if (becomes_immutable) done = call.fs.set_project(call.inode, wanted.fsx_projid);
  if (done) done = call.fs.set_flags(call.inode, flags);
  if (done && !becomes_immutable) done = call.fs.set_project(call.inode, wanted.fsx_projid);
  call.inode_changed(done);
}

void get_version(const Call& call) {
  const auto attributes = call.fs.attributes(call.inode);
  attributes ? call.give(attributes->generation) : call.reply.error(attributes.error());
}

// The generation is half of what the kernel knows an inode by: if it changed, the kernel would take the file
// for another one and fail all that is open. ext4 itself refuses where metadata has checksums.
void set_version(const Call& call) {
  const auto attributes = call.fs.attributes(call.inode);
  if (!attributes) return call.reply.error(attributes.error());
  const bool is_owner = call.caller.uid == attributes->uid;
  call.reply.error(Errno(is_owner || call.is_administrator() ? ENOTTY : EPERM));
}

void get_label(const Call& call) {
  std::array<char, kLabelRoom> out{};
  const auto label = call.fs.label();
  label.copy(out.data(), out.size() - 1);
  call.give(out);
}

void set_label(const Call& call) {
  std::array<char, kLabelRoom> wanted{};
  if (!call.is_administrator()) return call.reply.error(Errno(EPERM));
  if (!call.take(wanted)) return call.reply.error(Errno(EINVAL));
  const auto* const end = std::ranges::find(wanted, '\0');
  call.done(call.fs.set_label({wanted.begin(), end}));
}

void trim(const Call& call) {
  fstrim_range range{};
  if (!call.is_administrator()) return call.reply.error(Errno(EPERM));
  if (!call.take(range)) return call.reply.error(Errno(EINVAL));
  const auto trimmed = call.fs.trim({.offset = range.start, .length = range.len}, range.minlen);
  if (!trimmed) return call.reply.error(trimmed.error());
  range.len = *trimmed;
  call.give(range);
}

// Its number says that it only reads, so what it wants ("default", "flush the log", "do not") never arrives.
// Flushing first loses nothing that was written by then, and is right for each of the three.
void shut_down(const Call& call) {
  if (!call.is_administrator()) return call.reply.error(Errno(EPERM));
  call.done(call.fs.shut_down(ext4::ShutdownMode::kFlushFirst));
}

void ioctl(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t inode, unsigned command, void*,
           fuse_file_info*, unsigned, const void* in, std::size_t in_size, std::size_t out_room) {
  const Call call{.fs = fs,
                  .reply = reply,
                  .caller = *fuse_req_ctx(request),
                  .inode = inode_number(inode),
                  .in = {static_cast<const std::byte*>(in), in_size},
                  .out_room = out_room};
  switch (command) {
    case FS_IOC_GETFLAGS:
    case FS_IOC32_GETFLAGS:
      return get_flags(call);
    case FS_IOC_SETFLAGS:
    case FS_IOC32_SETFLAGS:
      return set_flags(call);
    case FS_IOC_FSGETXATTR:
      return get_xflags(call);
    case FS_IOC_FSSETXATTR:
      return set_xflags(call);
    case FS_IOC_GETVERSION:
    case FS_IOC32_GETVERSION:
    case kOldGetVersion:
    case kOldGetVersion32:
      return get_version(call);
    case FS_IOC_SETVERSION:
    case FS_IOC32_SETVERSION:
    case kOldSetVersion:
    case kOldSetVersion32:
      return set_version(call);
    case FS_IOC_GETFSLABEL:
      return get_label(call);
    case FS_IOC_SETFSLABEL:
      return set_label(call);
    case FITRIM:
      return trim(call);
    case kShutdown:
      return shut_down(call);
    default:
      return reply.error(Errno(ENOTTY));
  }
}

// With a block map swapon(2) would let the kernel write to the device past this server, to blocks that may
// belong to another file by then. ENOSYS is remembered: the kernel asks once.
void bmap(FileSystem&, Reply& reply, fuse_req_t, fuse_ino_t inode, std::size_t, std::uint64_t) {
  log_notice(
      "a swap file, or another use of a file's blocks on the device (FIBMAP), is refused, inode {}: "
      "only this server may touch the device; put swap on a partition or another file system",
      inode_number(inode));
  reply.error(Errno(ENOSYS));
}

}  // namespace

bool ioctl_locks_inode(std::span<const std::byte> request) {
  fuse_ioctl_in in{};
  constexpr std::size_t kBefore = sizeof(fuse_in_header) + sizeof in;
  if (request.size() < kBefore) return false;
  std::memcpy(&in, request.data() + sizeof(fuse_in_header), sizeof in);
  std::uint32_t locking = 0;
  switch (in.cmd) {
    case FS_IOC_SETFLAGS:
    case FS_IOC32_SETFLAGS:
      locking = FS_IMMUTABLE_FL | FS_APPEND_FL;
      break;
    case FS_IOC_FSSETXATTR:  // its flags are the first field
      locking = FS_XFLAG_IMMUTABLE | FS_XFLAG_APPEND;
      break;
    default:
      return false;
  }
  std::uint32_t flags = 0;
  if (request.size() < kBefore + sizeof flags) return false;
  std::memcpy(&flags, request.data() + kBefore, sizeof flags);
  return (flags & locking) != 0;
}

void add_ioctl_operations(fuse_lowlevel_ops& ops) {
  ops.ioctl = Entry<ioctl>::call;
  ops.bmap = Entry<bmap>::call;
}

}  // namespace fuse4fs::fuse
