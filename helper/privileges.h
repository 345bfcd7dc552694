// SPDX-License-Identifier: GPL-2.0-or-later
// Gives up, first thing, all of root's powers that mounting does not need.
#pragma once

#include "base/result.h"

namespace fuse4fs::helper {

enum class Errand {
  kMount,           // or remount
  kMountElsewhere,  // in another mount namespace
  kAbort,           // of a mount, and of its server
  kForUser,         // mount for an ordinary user, whose process is looked at
  kStop,            // the same, in the mount namespace where it is
};

// EPERM with words unless real and effective user are root with CAP_SYS_ADMIN. Whatever else is missing
// (containers) is missed where it is needed.
Outcome<void> keep_needed_privileges(Errand errand);

// What only the blessing of /dev/fuse takes (CAP_SYS_RAWIO), for the calling thread: a kernel with iomap
// gives it to every mount that is made by somebody who has that, blessed or not.
Outcome<void> give_up_blessing();

}  // namespace fuse4fs::helper
