// SPDX-License-Identifier: GPL-2.0-or-later
// mount -o remount: other flags for a mount that exists.
#pragma once

#include <string>

#include "base/result.h"
#include "helper/mount_options.h"

namespace fuse4fs::helper {

// Flags that no option mentions stay as they are. ro to rw is refused where the server holds descriptors that
// it can only read from. What only a new mount can heed is left out with a warning.
Outcome<void> remount(const std::string& directory, const std::string& subtype, const MountOptions& options);

// The flags after the remount.
unsigned long merged_flags(unsigned long present, const MountOptions& options);

}  // namespace fuse4fs::helper
