// SPDX-License-Identifier: GPL-2.0-or-later
// Whether fast-commit records can be at all, before the first of them is applied: inode numbers, ranges,
// names, and what an inode says of itself.
//
// Nothing is changed. Locking: before anybody else has the volume.
// Errors: EUCLEAN, with words that name the inode.
#pragma once

#include <span>

#include "base/result.h"
#include "server/ext4/fast_commit_log.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

Outcome<void> judge_fast_commits(const Metadata& metadata, std::span<const FastCommitRecord> records);

// The inode of an image, what is behind its end as zeros; its number is not in it.
ext2_inode_large fields_of(const InodeImage& image);

}  // namespace fuse4fs::ext4
