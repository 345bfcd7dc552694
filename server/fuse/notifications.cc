// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/notifications.h"

#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <optional>

#include "base/errno.h"
#include "base/log.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {
namespace {

std::optional<Errno> invalidate(int device_fd, std::uint64_t node, std::int64_t offset, std::int64_t length) {
  fuse_notify_inval_inode_out what{};
  what.ino = node;
  what.off = offset;
  what.len = length;
  fuse_out_header header{};
  header.error = FUSE_NOTIFY_INVAL_INODE;
  header.len = sizeof header + sizeof what;
  std::array<iovec, 2> parts{{{&header, sizeof header}, {&what, sizeof what}}};
  if (::writev(device_fd, parts.data(), parts.size()) < 0) return Errno::last();
  return std::nullopt;
}

}  // namespace

void invalidate_attributes(std::uint64_t node) { invalidate_attributes(CurrentRequest::device_fd(), node); }

void invalidate_attributes(int device_fd, std::uint64_t node) {
  constexpr std::int64_t kNoPages = -1;
  // It fails where the kernel does not know the node any more: then there is nothing to forget.
  (void)invalidate(device_fd, node, kNoPages, 0);
}

void write_dirty_pages(int device_fd, std::uint64_t node, std::uint64_t begin, std::uint64_t length) {
  const auto error =
      invalidate(device_fd, node, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(length));
  // ENOENT: the kernel has forgotten the inode, so it holds no pages of it.
  if (error && *error != Errno(ENOENT) && *error != Errno(ENODEV))
    log_warning("the kernel would not write its pages of node {}: {}", node, error->message());
}

}  // namespace fuse4fs::fuse
