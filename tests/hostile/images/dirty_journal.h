// SPDX-License-Identifier: GPL-2.0-or-later
// Volumes in memory whose journal has to be replayed, without a kernel's mount.
//
// Locking: none, one thread. What cannot be made ends the process (fuzz::require()).
#pragma once

#include <functional>
#include <string>

#include "server/ext4/file_system.h"

namespace fuse4fs::hostile::dirty {

// The volume when it was mounted, changed and unmounted.
std::string after(const std::string& volume, const std::function<void(ext4::FileSystem&)>& change);
// `volume` with a log (debugfs writes it) that makes `later` of it, but for the superblock.
std::string with_log(const std::string& volume, const std::string& later);
// Behind that log, in the journal's fast-commit area: a new file of this name in the root directory.
inline constexpr const char* kFastName = "made by a fast commit";
void add_fast_commits(std::string& volume);

}  // namespace fuse4fs::hostile::dirty
