// SPDX-License-Identifier: GPL-2.0-or-later
// FUSE connections from outside: whose they are, and ending them, so that every request that waits for the
// server fails, no matter what it does.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace fuse4fs::helper {

// `device`: the device number of the mount. ENOENT if there is no such connection. No mounted fusectl is
// needed.
Result<void> abort_connection(dev_t device);

// The user_id= that the connection's superblock was made with, by whichever mount was the first.
Result<uid_t> owner_of_connection(dev_t device);

}  // namespace fuse4fs::helper
