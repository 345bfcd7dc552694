// SPDX-License-Identifier: GPL-2.0-or-later
// The operations that libfuse decodes: each calls one method of the engine and answers.
#pragma once

#include <cstddef>
#include <span>

struct fuse_lowlevel_ops;

namespace fuse4fs::fuse {

// libfuse calls these with a `fuse4fs::ext4::FileSystem*` as its user data.
const fuse_lowlevel_ops& operations();

// A whole IOCTL message: whether it makes an inode immutable or append-only.
bool ioctl_locks_inode(std::span<const std::byte> request);

// Its parts, one file each.
void add_xattr_operations(fuse_lowlevel_ops& ops);
void add_range_operations(fuse_lowlevel_ops& ops);
void add_ioctl_operations(fuse_lowlevel_ops& ops);

}  // namespace fuse4fs::fuse
