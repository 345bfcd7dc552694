// SPDX-License-Identifier: GPL-2.0-or-later
// Who gives a new inode its ACLs and the last word on its mode.
#pragma once

#include <cstdint>

#include "server/ext4/file_system.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

// The kernel does where it keeps the directory, and sends them after it.
inline ext4::NewInode::Inheritance inheritance_in(std::uint64_t parent) {
  return CurrentRequest::kernel_keeps(parent) ? ext4::NewInode::Inheritance::kCallers
                                              : ext4::NewInode::Inheritance::kOurs;
}

}  // namespace fuse4fs::fuse
