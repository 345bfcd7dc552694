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

}  // namespace fuse4fs::helper
