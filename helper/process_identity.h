// SPDX-License-Identifier: GPL-2.0-or-later
// A process, named so that a later one with the same number is not taken for it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "helper/server_search.h"

namespace fuse4fs::helper {

struct ProcessIdentity {
  pid_t pid = 0;            // as this pid namespace counts; 0: unknown
  std::uint64_t start = 0;  // clock ticks since the machine started: field 22 of /proc/PID/stat
  friend bool operator==(const ProcessIdentity&, const ProcessIdentity&) = default;
};

// ESRCH if there is no such process.
Result<ProcessIdentity> identify(pid_t pid);

// Whose rights it has now. ESRCH if there is no such process.
Result<uid_t> effective_user_of(pid_t pid);

// That very process, held by its pidfd. ESRCH if it has ended, whoever has its number now.
Result<RunningServer> find_running(const ProcessIdentity& identity);

// The systemd service (fuse4fs@3-17-0.service) whose control group the process is in; empty if it is in none.
std::string unit_of(pid_t pid);

}  // namespace fuse4fs::helper
