// SPDX-License-Identifier: GPL-2.0-or-later
// The figures of statfs(2) that are counted when a volume is mounted, as the kernel's ext4 counts them.
//
// Locking: before anybody else has the handle. The group descriptors were verified. Errors: a bitmap's or
// an inode's, told already.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

class Volume;

// The superblock's free blocks and inodes become the sums of the group descriptors': the kernel writes the
// superblock's own more seldom. Left alone where the sums are impossible.
void count_free(struct_ext2_filsys& fs);

// Clusters of superblocks, descriptors, bitmaps, inode tables and the journal. With bigalloc the
// superblock's own figure counts, where it makes sense.
std::uint64_t overhead_clusters(struct_ext2_filsys& fs);

// What the group descriptors say of their groups, and the superblock of all, becomes what the bitmaps and
// inodes say: where the descriptors were not written with the bitmaps. Reads all inodes in use.
Result<void> count_all(Volume& volume);

}  // namespace fuse4fs::ext4
