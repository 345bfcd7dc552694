// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/unique_fd.h"

#include <unistd.h>

#include <cerrno>

namespace fuse4fs {

void UniqueFd::reset(int fd) noexcept {
  const int old = std::exchange(fd_, fd);
  if (old < 0) return;
  // The descriptor is gone whatever close(2) answers, and the caller's errno is worth more than this one.
  const int saved = errno;
  ::close(old);
  errno = saved;
}

}  // namespace fuse4fs
