// SPDX-License-Identifier: GPL-2.0-or-later
// The write-back and read-ahead limits of a FUSE mount, which only root can raise.
#pragma once

#include <string>
#include <vector>

#include "helper/fuse_mount.h"

namespace fuse4fs::helper {

// The bdi's directory in sysfs, or where it should be. The kernel names it anew once the mount has iomap.
std::string bdi_directory(dev_t mount, MountType type);
// Whether the kernel does file I/O of this mount by itself.
bool has_iomap(dev_t mount, MountType type);

// Lets the mount use as much of the page cache as a mount of the kernel's own ext4: FUSE mounts get one
// hundredth of it otherwise, and buffered writes crawl. After INIT, whose answer sets the read-ahead anew.
// What could not be set, in words: the mount is slower then, no more.
std::vector<std::string> tune_bdi(dev_t mount, MountType type);

}  // namespace fuse4fs::helper
