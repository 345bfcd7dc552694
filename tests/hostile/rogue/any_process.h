// SPDX-License-Identifier: GPL-2.0-or-later
// For attempts on other processes: it knows the number of none, so it tries all.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {

// Enough to reach every process of a machine in its first hours, and all of a container.
inline constexpr pid_t kMostProcesses = 100'000;

// The attempt runs in the one thread beside the first.
inline bool is_own(pid_t thread) { return thread == ::getpid() || thread == ::gettid(); }

// Tries all numbers but its own; the last error if none worked.
template <class Deed>
Verdict on_any_process(Deed deed) {
  for (pid_t pid = 1; pid < kMostProcesses; ++pid)
    if (!is_own(pid) && deed(pid) >= 0) return succeeded("a process that is not its own");
  return by_errno(-1);
}

}  // namespace fuse4fs::rogue
