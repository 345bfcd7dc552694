// SPDX-License-Identifier: GPL-2.0-or-later
// What mount(8) makes of the helper's exit status.
#pragma once

namespace fuse4fs::helper {

enum ExitStatus : int {
  kSuccess = 0,
  kUsage = 1,        // wrong call, or not permitted
  kSystemError = 2,  // out of memory, no process, no loop device
  kInternalBug = 4,
  kInterrupted = 8,  // SIGINT, SIGTERM, SIGHUP
  kMountFailure = 32,
};

}  // namespace fuse4fs::helper
