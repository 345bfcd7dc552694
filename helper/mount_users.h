// SPDX-License-Identifier: GPL-2.0-or-later
// Who keeps a mount busy, for the words of a refused unmount.
#pragma once

#include "helper/mount_table.h"

namespace fuse4fs::helper {

// "process 17 (bash) works in it; process 18 (less) has files of it open; /mnt/sub is mounted on it", a few
// of them; empty if nobody is seen. No file system is asked anything on the way.
std::string users_of(const MountEntry& mount);

}  // namespace fuse4fs::helper
