// SPDX-License-Identifier: GPL-2.0-or-later
// Which process serves a mount, found by what it has open: titles and names can be anybody's.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

// A process, held by its pidfd: it stays this one even when its number is given to another.
class RunningServer {
 public:
  RunningServer(UniqueFd process, pid_t pid) : process_(std::move(process)), pid_(pid) {}

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool ends_within(std::chrono::milliseconds patience) const;
  // ESRCH if it has ended.
  [[nodiscard]] Result<void> send_signal(int signal) const;

 private:
  UniqueFd process_;
  pid_t pid_;
};

// The processes that have open both the block device `device` (the device number of a fuseblk mount) and a
// /dev/fuse. Helpers like this one, which have both while they mount, are not among them. No file system is
// asked anything on the way, so that none can hang it.
std::vector<RunningServer> servers_of(dev_t device);

// The names in a directory of /proc, without those that begin with a dot.
std::vector<std::string> names_in(const std::string& path);

// What is cached: stat(2) of a descriptor on a hung network or FUSE mount would hang as well.
std::optional<struct statx> cached_status(const std::string& path);

// Whether one of them may write to the device: the mode that its descriptors were opened with.
bool has_writing_server(dev_t device);

}  // namespace fuse4fs::helper
