// SPDX-License-Identifier: GPL-2.0-or-later
// Gives up everything that the server does not need, before it reads the first byte of the device.
// Irreversible.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace fuse4fs::sandbox {

// The calls of fuse-iomap, which only a kernel that offers it has any use for.
enum class Iomap { kForbidden, kAllowed };

struct Options {
  // Descriptors that stay open; every other one is closed. 0, 1 and 2 are looked after here: 0 and 1 become
  // O_PATH descriptors of the empty root (a stray printf goes nowhere), 2 is left for the log.
  std::vector<int> kept_descriptors;
  // Bytes of memory that the process may call its own; with what it only reserves, some more. 0: as many as
  // it may now.
  std::uint64_t memory = 0;
  // Bytes that no regular file may grow beyond: the log may not fill a disk. Devices do not count.
  std::uint64_t largest_file = RLIM_INFINITY;
  Iomap iomap = Iomap::kForbidden;
  // Starts all threads that there will ever be: the filter has no clone. Called after privileges are gone and
  // before the system-call filter, which then covers every thread.
  std::function<Result<void>()> start_threads;
};

// What was reached, for the log and the tests.
struct Report {
  bool own_user_namespace = false;
  bool empty_root = false;
  // No capability can ever be had back, not even by an exec (which the filter forbids as well). Needs
  // CAP_SETPCAP.
  bool empty_bounding_set = false;
  bool landlock = false;
  int landlock_abi = 0;
};

// Empty root (where the process may make one), no capabilities, no_new_privs, Landlock without a rule,
// limits, no core dump, then the system-call filter (allowed_calls.h). Fails, rather than go on half
// confined, if anything but Landlock (an older kernel) cannot be had, and for root. Call it while there is
// one thread only.
Outcome<Report> enter(const Options& options);

// Shows `title` in ps(1) in place of the command line. Call set_title_area() first thing in main; it moves
// the environment elsewhere. Strings of argv are good until set_title(), which overwrites them.
void set_title_area(int argc, char** argv);
void set_title(const std::string& title);

}  // namespace fuse4fs::sandbox
