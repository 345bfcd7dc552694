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

struct SessionOptions {
  // With kAllowed a copy of the mount may translate user and group ids (mount_setattr(2),
  // MOUNT_ATTR_IDMAP). The kernel then names its caller only in requests that create something, and -1 in all
  // others: who asks for an ioctl cannot be known, so that those for administrators are refused to all.
  enum class IdMappedMounts { kRefused, kAllowed };
  IdMappedMounts id_mapped_mounts = IdMappedMounts::kRefused;
};

// The kernel's INIT.
struct InitOffer {
  std::uint64_t flags = 0;  // both words
  std::uint32_t minor = 0;
  SessionOptions options{};
};

// Completes libfuse's INIT reply in place, before it is written.
void complete_init_reply(std::span<iovec> reply, const InitOffer& offer);

}  // namespace fuse4fs::fuse
