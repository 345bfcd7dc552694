// SPDX-License-Identifier: GPL-2.0-or-later
// What is on the volumes that are damaged, and what a user then does to them, whatever it answers.
//
// Locking: none, one thread.
#pragma once

#include "server/ext4/file_system.h"

namespace fuse4fs::ext4::fuzz {

// Inodes 11 to 24: of all types, with maps of each depth, with attributes inside, in a block and, where the
// volume has those, in inodes of their own.
void fill_volume(FileSystem& fs);
// Reads everything, as far as it is not without end.
void look_at_volume(FileSystem& fs);
// Reads, changes and removes everything.
void use_volume(FileSystem& fs);

}  // namespace fuse4fs::ext4::fuzz
