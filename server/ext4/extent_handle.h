// SPDX-License-Identifier: GPL-2.0-or-later
// libext2fs's handle on one inode's extent tree, closed when it goes.
//
// Each change is written at once to the tree's blocks and to `inode`, which must outlive the handle.
// Locking: Volume::library(), as long as the handle lives.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

struct ExtentHandleCloser {
  void operator()(ext2_extent_handle* handle) const { ext2fs_extent_free(handle); }
};
using ExtentHandle = std::unique_ptr<ext2_extent_handle, ExtentHandleCloser>;

Result<ExtentHandle> open_extents(Volume& volume, Inode& inode);

// In blocks. The format stores the kind in the length: an unwritten one has a block less.
constexpr std::uint64_t longest_extent(Mapping::Kind kind) {
  constexpr std::uint64_t kLongestWritten = 1 << 15;
  return kind == Mapping::Kind::kUnwritten ? kLongestWritten - 1 : kLongestWritten;
}

}  // namespace fuse4fs::ext4
