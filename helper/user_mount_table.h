// SPDX-License-Identifier: GPL-2.0-or-later
// Which mounts of this project belong to ordinary users: the number that the helper gave the kernel with them
// (user_id=), in /proc/self/mountinfo. umount(8) goes by it as well.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace fuse4fs::helper {

// The user of the topmost mount at `path`, which must be canonical. Nothing if that is no mount of fuse4fs.
std::optional<uid_t> user_of_mount(const std::string& path);

int count_mounts_of_user(uid_t user);

}  // namespace fuse4fs::helper
