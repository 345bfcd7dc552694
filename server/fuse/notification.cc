// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/notification.h"

#include <sys/uio.h>

#include <array>

#include "base/errno.h"
#include "base/log.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/reply.h"

namespace fuse4fs::fuse {

void attributes_changed(std::uint64_t node_id) {
  fuse_notify_inval_inode_out body{.ino = node_id, .off = -1, .len = 0};  // a negative offset: no data
  fuse_out_header header{};
  header.len = sizeof header + sizeof body;
  header.error = FUSE_NOTIFY_INVAL_INODE;  // with unique 0 this is the message's kind
  std::array<iovec, 2> parts{{{&header, sizeof header}, {&body, sizeof body}}};
  // ENOENT: the kernel does not know the inode (any more).
  if (::writev(CurrentRequest::device_fd(), parts.data(), parts.size()) < 0 && errno != ENOENT &&
      errno != ENODEV)
    log_warning("the kernel refused to forget attributes: {}", Errno::last().message());
}

}  // namespace fuse4fs::fuse
