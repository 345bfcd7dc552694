// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs --abort DIRECTORY: ends a mount whose server does not answer any more.
#pragma once

#include <string>

#include "base/result.h"

namespace fuse4fs::helper {

// Fails every request that waits for the server, and takes the mount away. What was not yet written is lost.
// A server of ours then has 2 s to close the volume in order, and is killed if it does not: a stopped one
// would hold the device for ever. That it had to be killed is a warning, no failure.
Outcome<void> abort_mount(const std::string& directory, const std::string& subtype);

}  // namespace fuse4fs::helper
