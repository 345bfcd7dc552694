// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs as a whole: the one place that knows the order of things, logs, and picks the exit status.
#pragma once

#include "helper/command_line.h"
#include "helper/exit_status.h"

namespace fuse4fs::helper {

// Carries out a parsed command line, with root's privileges already cut down.
ExitStatus run(const CommandLine& line);

}  // namespace fuse4fs::helper
