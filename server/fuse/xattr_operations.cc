// SPDX-License-Identifier: GPL-2.0-or-later
// The operations of libfuse: extended attributes and ACLs.
#include "server/fuse/xattr_operations.h"

#include <fuse_lowlevel.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "server/fuse/conversions.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/notifications.h"
#include "server/fuse/operation_entry.h"
#include "server/fuse/operations.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {
namespace {

using ext4::FileSystem;

// Both GETXATTR and LISTXATTR ask for the length first, with no room for more.
void reply_sized(Reply& reply, std::span<const std::byte> bytes, std::size_t room) {
  if (room == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<std::uint32_t>(bytes.size());
    return reply.structure(out);
  }
  bytes.size() <= room ? reply.data(bytes) : reply.error(Errno(ERANGE));
}

void getxattr(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, const char* name,
              std::size_t room) {
  const auto value = fs.xattr(inode_number(inode), name);
  value ? reply_sized(reply, *value, room) : reply.error(value.error());
}

// Names that only the administrator may see. The request does not tell capabilities, only who asks; where
// mounts may be idmapped, not even that. There they are shown, or a backup would lose them without a word;
// the values the kernel guards itself.
bool may_be_administrator(uid_t caller) { return caller == 0 || caller == kUnknownId; }

std::string without_trusted(std::string_view names) {
  std::string left;
  while (!names.empty()) {
    const std::size_t length = std::min(names.find('\0'), names.size() - 1) + 1;
    if (!names.starts_with("trusted.")) left += names.substr(0, length);
    names.remove_prefix(length);
  }
  return left;
}

void listxattr(FileSystem& fs, Reply& reply, fuse_req_t request, fuse_ino_t inode, std::size_t room) {
  auto names = fs.xattr_names(inode_number(inode));
  if (!names) return reply.error(names.error());
  if (!may_be_administrator(fuse_req_ctx(request)->uid)) names = without_trusted(*names);
  reply_sized(reply, std::as_bytes(std::span(*names)), room);
}

// A value may take a block or give one back. The answer carries no attributes, so the kernel would go on
// showing the count that it has seen.
class BlocksWatch {
 public:
  BlocksWatch(FileSystem& fs, std::uint64_t node_id) : fs_(fs), node_id_(node_id), before_(sectors()) {}
  void changed() const {
    if (sectors() != before_) invalidate_attributes(node_id_);
  }

 private:
  [[nodiscard]] std::uint64_t sectors() const {
    const auto attributes = fs_.attributes(inode_number(node_id_));
    return attributes ? attributes->sectors : 0;
  }

  FileSystem& fs_;
  const std::uint64_t node_id_;
  const std::uint64_t before_;
};

void removexattr(FileSystem& fs, Reply& reply, fuse_req_t, fuse_ino_t inode, const char* name) {
  const BlocksWatch watch(fs, inode);
  const auto removed = fs.remove_xattr(inode_number(inode), name);
  watch.changed();
  reply.outcome(removed);
}

struct Setxattr {
  fuse_in_header header{};
  fuse_setxattr_in in{};
  std::string_view name;
  std::span<const std::byte> value;
};

std::optional<Setxattr> decode(std::span<const std::byte> request, SetxattrForm form) {
  Setxattr set;
  const std::size_t length = form == SetxattrForm::kExtended ? sizeof set.in : FUSE_COMPAT_SETXATTR_IN_SIZE;
  if (request.size() < sizeof set.header + length) return std::nullopt;
  std::memcpy(&set.header, request.data(), sizeof set.header);
  std::memcpy(&set.in, request.data() + sizeof set.header, length);
  const auto rest = request.subspan(sizeof set.header + length);
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), rest.size());
  const std::size_t end = text.find('\0');
  if (end == std::string_view::npos || rest.size() - end - 1 != set.in.size) return std::nullopt;
  set.name = text.substr(0, end);
  set.value = rest.subspan(end + 1);
  return set;
}

}  // namespace

void set_xattr(FileSystem& fs, std::span<const std::byte> request, SetxattrForm form) {
  Reply reply;
  const auto set = decode(request, form);
  if (!set) return reply.error(Errno(EINVAL));
  const auto inode = inode_number(set->header.nodeid);
  auto mode = ext4::XattrMode::kCreateOrReplace;
  switch (set->in.flags) {
    case 0:
      break;
    case XATTR_CREATE:
      mode = ext4::XattrMode::kCreate;
      break;
    case XATTR_REPLACE:
      mode = ext4::XattrMode::kReplace;
      break;
    case XATTR_CREATE | XATTR_REPLACE: {
      // It must be there and must not: as the kernel's ext4, which looks in this order.
      const auto there = fs.xattr(inode, set->name);
      return reply.error(there ? Errno(EEXIST) : there.error());
    }
    default:
      return reply.error(Errno(EINVAL));
  }
  const auto setgid = (set->in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0 ? ext4::SetgidBit::kClear
                                                                                  : ext4::SetgidBit::kKeep;
  const BlocksWatch watch(fs, set->header.nodeid);
  const auto done = fs.set_xattr(inode, set->name, set->value, mode, setgid);
  watch.changed();
  reply.outcome(done);
}

void add_xattr_operations(fuse_lowlevel_ops& ops) {
  ops.getxattr = Entry<getxattr>::call;
  ops.listxattr = Entry<listxattr>::call;
  ops.removexattr = Entry<removexattr>::call;
  // SETXATTR: dispatcher.cc.
}

}  // namespace fuse4fs::fuse
