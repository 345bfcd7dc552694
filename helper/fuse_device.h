// SPDX-License-Identifier: GPL-2.0-or-later
// /dev/fuse: a fresh one for the server, and further ones bound to the same mount.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

// Open, and checked to be the kernel's.
Outcome<UniqueFd> open_fuse_device();

// A further descriptor of the connection of `mounted`. EINVAL (or EPERM, by the kernel's age) if that is not
// mounted.
Result<UniqueFd> clone_fuse_device(int mounted);

}  // namespace fuse4fs::helper
