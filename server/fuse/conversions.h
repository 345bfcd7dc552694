// SPDX-License-Identifier: GPL-2.0-or-later
// Between the engine's values and the kernel's wire structs.
#pragma once

#include "server/ext4/file_system.h"
#include "server/fuse/connection.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {

// The kernel's node id is the inode number, but for its fixed root id: 1 and 2 change places.
std::uint64_t node_id(ext4::InodeNumber inode);
// 0, which is no inode, for a node id that no inode number fits: a file handle may hold anything.
ext4::InodeNumber inode_number(std::uint64_t node_id);

// Of the mount, what attributes say of each inode.
struct AttributeStyle {
  std::uint32_t block_size = 0;  // bytes
  DataPath data_path = DataPath::kServer;
  // Bytes, with DataPath::kIomap.
  std::uint32_t sector_size = 0;
  std::uint32_t atomic_write_unit = 0;  // SessionOptions
};

fuse_attr to_wire(const ext4::Attributes& attributes, const AttributeStyle& style);
fuse_attr_out attribute_reply(const ext4::Attributes& attributes, const AttributeStyle& style);
StatxReply statx_reply(const ext4::Attributes& attributes, const AttributeStyle& style);
fuse_entry_out entry_reply(const ext4::Attributes& attributes, const AttributeStyle& style);
// Tells the kernel that the name does not exist, and that it may remember so.
fuse_entry_out negative_entry_reply();

}  // namespace fuse4fs::fuse
