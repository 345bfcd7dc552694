// SPDX-License-Identifier: GPL-2.0-or-later
// Where the server's log lines go: to the user who mounts, through the helper, until the mount serves; and to
// the descriptor that the helper gave for good (a file, the kernel log, later journald).
//
// Installed as the log writer of base/log.h, which calls it from one thread at a time.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"

namespace fuse4fs::service {

class LogOutput {
 public:
  // `about` names the volume in lines that many mounts share: "/dev/sdb1 on /mnt".
  LogOutput(UniqueFd lasting, std::string about);

  void write(LogLevel level, std::string_view line);
  // The helper leaves, and standard error with it. Without a lasting descriptor standard error is kept.
  void forget_standard_error();

  [[nodiscard]] int fd() const { return lasting_.get(); }

 private:
  UniqueFd lasting_;
  bool kernel_log_ = false;
  std::string about_;
  std::atomic<bool> to_standard_error_ = true;
};

}  // namespace fuse4fs::service
