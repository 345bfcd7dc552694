// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/operations.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fs.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "server/fuse/conversions.h"
#include "server/fuse/directory_listing.h"
#include "server/fuse/negotiation.h"
#include "server/fuse/notifications.h"
#include "server/fuse/operation_entry.h"
#include "server/fuse/reply.h"
#include "server/fuse/transfer_buffer.h"

namespace fuse4fs::fuse {
namespace {

using ext4::FileSystem;

ext4::NewInode new_inode(fuse_req_t request, mode_t mode, dev_t device = 0) {
  const fuse_ctx* const caller = fuse_req_ctx(request);
  return {.mode = mode, .umask = caller->umask, .uid = caller->uid, .gid = caller->gid, .device = device};
}

// The kernel passes names beyond NAME_MAX when requests may be larger than a page; a directory cannot hold
// them.
bool refuse_long_name(Reply& reply, const char* name) {
  if (std::string_view(name).size() <= ext4::kMaxNameLength) return false;
  reply.error(Errno(ENAMETOOLONG));
  return true;
}

void lookup(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t parent, const char* name) {
  if (refuse_long_name(reply, name)) return;
  // The kernel resolves dots itself: this one is the node of a file handle, which may be anything.
  if (std::string_view(name) == ".")
    return reply.entry_or_error(fs.look_up_handle(inode_number(parent)), fs.block_size());
  const auto found = fs.lookup(inode_number(parent), name);
  if (!found && found.error() == Errno(ENOENT)) return reply.no_entry();
  reply.entry_or_error(found, fs.block_size());
}

void forget(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, std::uint64_t count) {
  fs.forget(inode_number(inode), count);
  reply.none();
}

void forget_multi(FileSystem& fs, Reply& reply, fuse_req_t, std::size_t count, fuse_forget_data* forgets) {
  for (const fuse_forget_data& one : std::span(forgets, count)) fs.forget(inode_number(one.ino), one.nlookup);
  reply.none();
}

void getattr(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, fuse_file_info*) {
  const auto attributes = fs.attributes(inode_number(inode));
  reply.attributes_or_error(attributes, fs.block_size());
}

ext4::Timestamp timestamp(const timespec& time) {
  return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

ext4::Timestamp now() {
  timespec time{};
  const bool beside_kernel = CurrentRequest::connection().uses_iomap();
  clock_gettime(beside_kernel ? CLOCK_REALTIME_COARSE : CLOCK_REALTIME, &time);
  return timestamp(time);
}

// With iomap the kernel keeps a file's times, has asked itself, and says what it took for now, by its own
// clock. Of what is no file it never sends the ctime.
bool are_kernels_times(int valid) {
  return CurrentRequest::connection().uses_iomap() && (valid & FUSE_SET_ATTR_CTIME) != 0;
}

ext4::AttributeChanges::Times origin_of_times(int valid, const fuse_file_info* file) {
  using Times = ext4::AttributeChanges::Times;
  if (are_kernels_times(valid)) return Times::kWrittenBack;
  constexpr int kNow = FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
  if ((valid & kNow) != 0) return Times::kNow;
  // The kernel keeps these two of regular files, and brings them back with an open file's handle.
  constexpr int kKept = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;
  return (valid & ~kKept) == 0 && file != nullptr ? Times::kWrittenBack : Times::kGiven;
}

// A mode changes the ACL beside it, and kernels of v7 go on with the one that they have of an iomap file.
void forget_acl(FileSystem& fs, fuse_ino_t inode) {
  if (CurrentRequest::connection().uses_iomap() && fs.xattr(inode_number(inode), "system.posix_acl_access"))
    invalidate_attributes(inode);
}

void setattr(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, struct stat* wanted, int valid,
             fuse_file_info* file) {
  ext4::AttributeChanges changes;
  changes.times = origin_of_times(valid, file);
  if (valid & FUSE_SET_ATTR_MODE) changes.permissions = wanted->st_mode & 07777;
  if (valid & FUSE_SET_ATTR_UID) changes.uid = wanted->st_uid;
  if (valid & FUSE_SET_ATTR_GID) changes.gid = wanted->st_gid;
  if (valid & FUSE_SET_ATTR_SIZE) changes.size = static_cast<std::uint64_t>(wanted->st_size);
  if (valid & FUSE_SET_ATTR_ATIME) changes.accessed = timestamp(wanted->st_atim);
  if (valid & FUSE_SET_ATTR_MTIME) changes.modified = timestamp(wanted->st_mtim);
  if (valid & FUSE_SET_ATTR_CTIME) changes.changed = timestamp(wanted->st_ctim);
  const bool kernels_now = are_kernels_times(valid);
  if ((valid & FUSE_SET_ATTR_ATIME_NOW) && !kernels_now) changes.accessed = now();
  if ((valid & FUSE_SET_ATTR_MTIME_NOW) && !kernels_now) changes.modified = now();
  if (valid & FUSE_SET_ATTR_KILL_SUID) changes.privileges = ext4::AttributeChanges::Privileges::kClear;
  const auto attributes = fs.set_attributes(inode_number(inode), changes);
  if (attributes && changes.permissions) forget_acl(fs, inode);
  reply.attributes_or_error(attributes, fs.block_size());
}

void readlink(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode) {
  const auto target = fs.symlink_target(inode_number(inode));
  target ? reply.data(std::as_bytes(std::span(*target))) : reply.error(target.error());
}

void mknod(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
           dev_t device) {
  if (refuse_long_name(reply, name)) return;
  const auto made = fs.make(inode_number(parent), name, new_inode(request, mode, device));
  reply.entry_or_error(made, fs.block_size());
}

void mkdir(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t parent, const char* name,
           mode_t mode) {
  if (refuse_long_name(reply, name)) return;
  const auto made = fs.make(inode_number(parent), name, new_inode(request, S_IFDIR | (mode & 07777)));
  reply.entry_or_error(made, fs.block_size());
}

void symlink(FileSystem& fs, Reply& reply, fuse_req_t request, const char* target, fuse_ino_t parent,
             const char* name) {
  if (refuse_long_name(reply, name)) return;
  const auto made = fs.make_symlink(inode_number(parent), name, target, new_inode(request, S_IFLNK | 0777));
  reply.entry_or_error(made, fs.block_size());
}

void link(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, fuse_ino_t new_parent,
          const char* new_name) {
  if (refuse_long_name(reply, new_name)) return;
  const auto linked = fs.link(inode_number(inode), inode_number(new_parent), new_name);
  reply.entry_or_error(linked, fs.block_size());
}

void unlink(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t parent, const char* name) {
  if (refuse_long_name(reply, name)) return;
  reply.outcome(fs.unlink(inode_number(parent), name));
}

void rmdir(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t parent, const char* name) {
  if (refuse_long_name(reply, name)) return;
  reply.outcome(fs.remove_directory(inode_number(parent), name));
}

void rename(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t parent, const char* name,
            fuse_ino_t new_parent, const char* new_name, unsigned flags) {
  if (refuse_long_name(reply, name) || refuse_long_name(reply, new_name)) return;
  ext4::RenameOptions options;
  switch (flags & ~RENAME_WHITEOUT) {
    case 0:
      break;
    case RENAME_NOREPLACE:
      options.mode = ext4::RenameMode::kNoReplace;
      break;
    case RENAME_EXCHANGE:
      options.mode = ext4::RenameMode::kExchange;
      break;
    default:
      return reply.error(Errno(EINVAL));
  }
  if ((flags & RENAME_WHITEOUT) != 0) options.whiteout = new_inode(request, S_IFCHR);
  reply.outcome(fs.rename(inode_number(parent), name, inode_number(new_parent), new_name, options));
}

// The kernel then opens, closes and lists without asking again, and keeps its cache (FUSE_NO_OPEN_SUPPORT).
void open_needs_no_server(FileSystem&, Reply& reply, fuse_req_t, fuse_ino_t, fuse_file_info*) {
  reply.error(Errno(ENOSYS));
}

// What is open for writing only is read by the kernel, to complete the page that is written.
ext4::AccessTime access_time() {
  const unsigned flags = CurrentRequest::open_flags();
  // With iomap access times of files are the kernel's.
  if (CurrentRequest::opcode() == FUSE_READ && CurrentRequest::connection().uses_iomap())
    return ext4::AccessTime::kKeep;
  const bool keep = (flags & O_NOATIME) != 0 || (flags & O_ACCMODE) == O_WRONLY;
  return keep ? ext4::AccessTime::kKeep : ext4::AccessTime::kUpdate;
}

void read(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, std::size_t size, off_t offset,
          fuse_file_info*) {
  // With iomap it is of data in the inode. Kernels of v7 ask for as much as they would have liked to read,
  // and have room for one block.
  if (CurrentRequest::connection().uses_iomap()) {
    const auto block = static_cast<off_t>(fs.block_size());
    size = std::min(size, static_cast<std::size_t>(std::max<off_t>(block - offset, 0)));
  }
  const std::span<std::byte> buffer = TransferBuffer::of_this_thread(size);
  const auto bytes = fs.read(inode_number(inode), static_cast<std::uint64_t>(offset), buffer, access_time());
  bytes ? reply.data(buffer.first(*bytes)) : reply.error(bytes.error());
}

void readdir(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, std::size_t size, off_t cookie,
             fuse_file_info*) {
  const auto listing =
      list_directory(fs, inode_number(inode), static_cast<std::uint64_t>(cookie), size, access_time());
  listing ? reply.data(*listing) : reply.error(listing.error());
}

void readdirplus(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, std::size_t size, off_t cookie,
                 fuse_file_info*) {
  const auto listing = list_directory_with_attributes(
      fs, inode_number(inode), static_cast<std::uint64_t>(cookie), size, access_time());
  listing ? reply.data(*listing) : reply.error(listing.error());
}

void statfs(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t) {
  const auto statistics = fs.statistics();
  if (!statistics) return reply.error(statistics.error());
  fuse_statfs_out out{};
  out.st.blocks = statistics->blocks;
  out.st.bfree = statistics->free_blocks;
  out.st.bavail = statistics->available_blocks;
  out.st.files = statistics->inodes;
  out.st.ffree = statistics->free_inodes;
  out.st.bsize = statistics->block_size;
  out.st.frsize = statistics->block_size;
  out.st.namelen = ext4::kMaxNameLength;
  reply.structure(out);
}

void fsync(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, int data_only, fuse_file_info*) {
  reply.outcome(fs.sync_inode(inode_number(inode),
                              data_only != 0 ? FileSystem::SyncWhat::kDataOnly : FileSystem::SyncWhat::kAll));
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops ops{};
  ops.init = negotiate;
  ops.lookup = Entry<lookup>::call;
  ops.forget = Entry<forget>::call;
  ops.forget_multi = Entry<forget_multi>::call;
  ops.getattr = Entry<getattr>::call;
  ops.setattr = Entry<setattr>::call;
  ops.readlink = Entry<readlink>::call;
  ops.mknod = Entry<mknod>::call;
  ops.mkdir = Entry<mkdir>::call;
  ops.symlink = Entry<symlink>::call;
  ops.link = Entry<link>::call;
  ops.unlink = Entry<unlink>::call;
  ops.rmdir = Entry<rmdir>::call;
  ops.rename = Entry<rename>::call;
  ops.open = Entry<open_needs_no_server>::call;
  ops.opendir = Entry<open_needs_no_server>::call;
  ops.read = Entry<read>::call;
  ops.readdir = Entry<readdir>::call;
  ops.readdirplus = Entry<readdirplus>::call;
  ops.statfs = Entry<statfs>::call;
  ops.fsync = Entry<fsync>::call;
  ops.fsyncdir = Entry<fsync>::call;
  add_xattr_operations(ops);
  add_range_operations(ops);
  add_ioctl_operations(ops);
  // WRITE, SETXATTR, SYNCFS, DESTROY and INTERRUPT: dispatcher.cc. What is not here is answered ENOSYS by
  // libfuse, which the kernel remembers (FLUSH, CREATE, ACCESS, …).
  return ops;
}

}  // namespace

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops ops = make_operations();
  return ops;
}

}  // namespace fuse4fs::fuse
