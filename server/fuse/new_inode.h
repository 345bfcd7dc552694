// SPDX-License-Identifier: GPL-2.0-or-later
// Who gives a new inode its ACLs and the last word on its mode.
#pragma once

#include <cstdint>

#include "server/ext4/file_system.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

// With iomap the kernel does, and sends them after it, in all directories but the root: that inode is there
// before the kernel has been told of iomap.
inline ext4::NewInode::Inheritance inheritance_in(std::uint64_t parent) {
  const bool kernels = CurrentRequest::connection().uses_iomap() && parent != FUSE_ROOT_ID;
  return kernels ? ext4::NewInode::Inheritance::kCallers : ext4::NewInode::Inheritance::kOurs;
}

}  // namespace fuse4fs::fuse
