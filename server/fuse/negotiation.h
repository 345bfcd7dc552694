// SPDX-License-Identifier: GPL-2.0-or-later
// INIT: what this server asks of the kernel. libfuse makes the reply; what its version does not know is added
// to it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

struct fuse_conn_info;

namespace fuse4fs::fuse {

// libfuse's init operation: chooses among the capabilities that libfuse knows. `user_data`: the
// ext4::FileSystem.
void negotiate(void* user_data, fuse_conn_info* connection);

// Completes libfuse's INIT reply in place, before it is written. `offered` are the 64 flag bits of the
// kernel's INIT.
void complete_init_reply(std::span<iovec> reply, std::uint64_t offered);

}  // namespace fuse4fs::fuse
