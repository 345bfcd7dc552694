// SPDX-License-Identifier: GPL-2.0-or-later
// The users' service: mounts for one ordinary user, as root, what fstab or polkit allows. One request a
// process.
//
// Nothing of the asker is used but what the kernel says of it (user, groups, process, mount namespace) and
// three texts, which must lead to a line of fstab or to an administrator's yes. The mount point is opened
// once, with the user's own rights and without following links, and mounted on as it was opened; a source
// likewise. What happens then is the ordinary helper, in a child of this process, with an environment and
// descriptors that do not come from the asker. docs/user-mounts.md argues it.
#pragma once

#include "base/unique_fd.h"
#include "helper/exit_status.h"

namespace fuse4fs::helper {

// `connection`: accepted from the socket kUserServiceSocket. The exit status tells systemd whether the
// service worked, not whether the mount did: that the user hears.
ExitStatus serve_user(UniqueFd connection);

}  // namespace fuse4fs::helper
