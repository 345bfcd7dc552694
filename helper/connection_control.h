// SPDX-License-Identifier: GPL-2.0-or-later
// Ends a FUSE connection from outside: every request that waits for the server fails, no matter what it does.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace fuse4fs::helper {

// `device`: the device number of the mount. ENOENT if there is no such connection. Needs no mounted fusectl.
Result<void> abort_connection(dev_t device);

}  // namespace fuse4fs::helper
