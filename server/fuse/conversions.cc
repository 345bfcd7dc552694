// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/conversions.h"

#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <limits>

#include "base/fuse_iomap_abi.h"

namespace fuse4fs::fuse {
namespace {

// Nobody but this mount changes the volume, so the kernel may keep what it was told for as long as it likes,
// whoever moves the data.
constexpr std::uint64_t kTimeoutSeconds = 86400;  // a day
constexpr ext4::InodeNumber kBadBlocksInode = 1;

// The kernel's packing of a device number in fuse_attr.rdev (new_encode_dev in its kdev_t.h).
std::uint32_t encode_device(dev_t device) {
  const std::uint32_t major_number = major(device);
  const std::uint32_t minor_number = minor(device);
  return (minor_number & 0xff) | (major_number << 8) | ((minor_number & ~0xffU) << 12);
}

// Whether the kernel may write blocks of this file in one piece. As ext4, of files with extents; one that
// lies in its inode gets them, unless the volume has none, and then it is refused when it is tried.
bool takes_atomic_writes(const ext4::Attributes& attributes, const AttributeStyle& style) {
  return style.data_path == DataPath::kIomap && style.atomic_write_unit != 0 && S_ISREG(attributes.mode) &&
         (attributes.flags & (FS_EXTENT_FL | FS_INLINE_DATA_FL)) != 0;
}

// fuse_attr.flags. The kernel heeds them when it first sees the inode. Others than files are as on plain
// FUSE: of a directory that it had to itself the kernel would ask for the default ACL with each name that it
// makes.
std::uint32_t wire_flags(const ext4::Attributes& attributes, const AttributeStyle& style) {
  if (!S_ISREG(attributes.mode)) return 0;
  std::uint32_t flags = iomap_abi::kExclusive | iomap_abi::kIomap;
  if (takes_atomic_writes(attributes, style)) flags |= iomap_abi::kAtomic;
  if ((attributes.flags & FS_SYNC_FL) != 0) flags |= iomap_abi::kSync;
  if ((attributes.flags & FS_IMMUTABLE_FL) != 0) flags |= iomap_abi::kImmutable;
  if ((attributes.flags & FS_APPEND_FL) != 0) flags |= iomap_abi::kAppend;
  return flags;
}

// STATX_ATTR_*
std::uint64_t statx_attributes(std::uint32_t flags) {
  std::uint64_t attributes = 0;
  if ((flags & FS_IMMUTABLE_FL) != 0) attributes |= STATX_ATTR_IMMUTABLE;
  if ((flags & FS_APPEND_FL) != 0) attributes |= STATX_ATTR_APPEND;
  if ((flags & FS_NODUMP_FL) != 0) attributes |= STATX_ATTR_NODUMP;
  return attributes;
}

}  // namespace

std::uint64_t node_id(ext4::InodeNumber inode) {
  if (inode == ext4::kRootInode) return FUSE_ROOT_ID;
  if (inode == kBadBlocksInode) return ext4::kRootInode;
  return inode;
}

ext4::InodeNumber inode_number(std::uint64_t node_id) {
  if (node_id == FUSE_ROOT_ID) return ext4::kRootInode;
  if (node_id == ext4::kRootInode) return kBadBlocksInode;
  if (node_id > std::numeric_limits<ext4::InodeNumber>::max()) return 0;
  return static_cast<ext4::InodeNumber>(node_id);
}

fuse_attr to_wire(const ext4::Attributes& attributes, const AttributeStyle& style) {
  fuse_attr wire{};
  wire.ino = attributes.inode;
  wire.size = attributes.size;
  wire.blocks = attributes.sectors;
  wire.atime = static_cast<std::uint64_t>(attributes.accessed.seconds);
  wire.mtime = static_cast<std::uint64_t>(attributes.modified.seconds);
  wire.ctime = static_cast<std::uint64_t>(attributes.changed.seconds);
  wire.atimensec = attributes.accessed.nanoseconds;
  wire.mtimensec = attributes.modified.nanoseconds;
  wire.ctimensec = attributes.changed.nanoseconds;
  wire.mode = attributes.mode;
  wire.nlink = attributes.links;
  wire.uid = attributes.uid;
  wire.gid = attributes.gid;
  wire.rdev = encode_device(attributes.device);
  wire.blksize = style.block_size;
  if (style.data_path == DataPath::kIomap) wire.flags = wire_flags(attributes, style);
  return wire;
}

fuse_attr_out attribute_reply(const ext4::Attributes& attributes, const AttributeStyle& style) {
  fuse_attr_out reply{};
  reply.attr_valid = kTimeoutSeconds;
  reply.attr = to_wire(attributes, style);
  return reply;
}

StatxReply statx_reply(const ext4::Attributes& attributes, const AttributeStyle& style) {
  const auto time = [](const ext4::Timestamp& from) {
    return StatxTime{.seconds = from.seconds, .nanoseconds = from.nanoseconds, .reserved = 0};
  };
  StatxReply reply{};
  reply.attr_valid = kTimeoutSeconds;
  reply.mask = STATX_BASIC_STATS;
  reply.blksize = style.block_size;
  reply.attributes = statx_attributes(attributes.flags);
  reply.attributes_mask = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
  reply.nlink = attributes.links;
  reply.uid = attributes.uid;
  reply.gid = attributes.gid;
  reply.mode = static_cast<std::uint16_t>(attributes.mode);
  reply.ino = attributes.inode;
  reply.size = attributes.size;
  reply.blocks = attributes.sectors;
  reply.atime = time(attributes.accessed);
  reply.ctime = time(attributes.changed);
  reply.mtime = time(attributes.modified);
  if (attributes.created) {
    reply.mask |= STATX_BTIME;
    reply.btime = time(*attributes.created);
  }
  if (style.data_path == DataPath::kIomap && S_ISREG(attributes.mode)) {
    reply.mask |= kStatxDioAlign;
    reply.dio_mem_align = style.sector_size;
    reply.dio_offset_align = style.sector_size;
    // Zeros say that there are none.
    reply.mask |= kStatxWriteAtomic;
    reply.attributes_mask |= kStatxAttributeWriteAtomic;
  }
  if (takes_atomic_writes(attributes, style)) {
    reply.attributes |= kStatxAttributeWriteAtomic;
    reply.atomic_write_unit_min = style.atomic_write_unit;
    reply.atomic_write_unit_max = style.atomic_write_unit;
    reply.atomic_write_segments_max = 1;
  }
  reply.rdev_major = major(attributes.device);
  reply.rdev_minor = minor(attributes.device);
  return reply;
}

fuse_entry_out entry_reply(const ext4::Attributes& attributes, const AttributeStyle& style) {
  fuse_entry_out reply{};
  reply.nodeid = node_id(attributes.inode);
  // The kernel wants it so, and says so in its log.
  reply.generation = attributes.inode == ext4::kRootInode ? 0 : attributes.generation;
  reply.entry_valid = kTimeoutSeconds;
  reply.attr_valid = kTimeoutSeconds;
  reply.attr = to_wire(attributes, style);
  return reply;
}

fuse_entry_out negative_entry_reply() {
  fuse_entry_out reply{};
  reply.entry_valid = kTimeoutSeconds;
  return reply;
}

}  // namespace fuse4fs::fuse
