// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs as an ordinary user, as mount(8) runs it for fstab lines with user, users, owner or group: it
// has no powers itself, and hands the wish to the users' service (user_mount_service.h).
#pragma once

#include "helper/command_line.h"
#include "helper/exit_status.h"

namespace fuse4fs::helper {

// Waits for the end of the mount; ending this process ends the attempt. Words go to standard error.
ExitStatus ask_user_service(const CommandLine& line);

}  // namespace fuse4fs::helper
