// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the ordinary helper for a user: in a child process, whose words go to the user, and which is
// interrupted when the user leaves.
#pragma once

#include "helper/command_line.h"
#include "helper/exit_status.h"
#include "protocol/channel.h"

namespace fuse4fs::helper {

// The child's exit status. The child has nothing of its own environment, /dev/null to read from, and ends in
// order (whatever it has mounted is taken away again) when this process or the user's does.
ExitStatus run_errand(const CommandLine& line, protocol::Channel& channel);

}  // namespace fuse4fs::helper
