// SPDX-License-Identifier: GPL-2.0-or-later
// The whole of mount.fuse4fs but for main(), so that a test can be that program.
#pragma once

namespace fuse4fs::helper {

// Returns the exit status. Gives up privileges for good, and sets the log writer.
int run_program(int argc, char** argv);

}  // namespace fuse4fs::helper
