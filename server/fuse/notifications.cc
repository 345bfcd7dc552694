// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/notifications.h"

#include <cerrno>

#include "base/log.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/kernel_device.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {
namespace {

Result<void> invalidate(int device_fd, std::uint64_t node, std::int64_t offset, std::int64_t length) {
  fuse_notify_inval_inode_out what{};
  what.ino = node;
  what.off = offset;
  what.len = length;
  return notify(KernelDevice::real(), device_fd, FUSE_NOTIFY_INVAL_INODE, what);
}

}  // namespace

void invalidate_attributes(std::uint64_t node) { invalidate_attributes(CurrentRequest::device_fd(), node); }

void invalidate_attributes(int device_fd, std::uint64_t node) {
  constexpr std::int64_t kNoPages = -1;
  // It fails where the kernel does not know the node any more: then there is nothing to forget.
  (void)invalidate(device_fd, node, kNoPages, 0);
}

void write_dirty_pages(int device_fd, std::uint64_t node, std::uint64_t begin, std::uint64_t length) {
  const auto done =
      invalidate(device_fd, node, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(length));
  // ENOENT: the kernel has forgotten the inode, so it holds no pages of it.
  if (!done && done.error() != Errno(ENOENT) && done.error() != Errno(ENODEV))
    log_warning("the kernel would not write its pages of node {}: {}", node, done.error().message());
}

}  // namespace fuse4fs::fuse
