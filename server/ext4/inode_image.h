// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes as fast commits hold them, put into the volume: all that an inode says of itself is taken from the
// image, but where its blocks lie and how many they are is not. An image is of a moment; its map belongs to
// blocks that were never written.
//
// Locking: before anybody else has the volume. The image was judged
// (fast_commit_judge.h). Errors: EUCLEAN (told already), ENOSPC, EIO.
#pragma once

#include "base/result.h"
#include "server/ext4/fast_commit_log.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

// Its number is free, and in use afterwards. No blocks, no attributes (a fast commit never gives any): what a
// former owner of the number left behind is gone. Directories get their first block with their name.
Result<void> create_from_image(Metadata& metadata, const InodeImage& image);

// It is in use and of the same type, and its map was checked. Its map, attributes and deletion time stay; of
// a directory its size and form too. Data inside the inode comes from the image, or goes to make room for a
// map.
Result<void> update_from_image(Metadata& metadata, const InodeImage& image);

}  // namespace fuse4fs::ext4
