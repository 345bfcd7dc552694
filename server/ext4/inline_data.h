// SPDX-License-Identifier: GPL-2.0-or-later
// Content that lies inside the inode: the first 60 bytes in the place of the block map, the rest as the
// extended attribute "system.data".
//
// Locking: any thread that holds the inode's lock, exclusive for changes. Errors: ENOSPC, EUCLEAN (told
// already).
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/result.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inode.h"
#include "server/ext4/volume.h"
#include "server/ext4/xattr_store.h"

namespace fuse4fs::ext4 {

class InlineData {
 public:
  static constexpr std::size_t kInMap = 60;

  InlineData(Volume& volume, BlockAllocator& blocks, ExtentMap& extents, XattrStore& xattrs)
      : volume_(volume), blocks_(blocks), extents_(extents), xattrs_(xattrs) {}

  // All of the room, at least kInMap bytes: a file's content is what of it lies below its size.
  Result<std::vector<std::byte>> read(const Inode& inode);
  // The first content of an inode that has none yet. Writes the inode. ENOSPC where it has no room for the
  // attribute.
  Result<void> make(Inode& inode, const std::vector<std::byte>& bytes);
  // What it has of room beyond kInMap, at most: in bytes, in fours.
  Result<std::size_t> room_behind(const Inode& inode) { return xattrs_.room_for_inline_data(inode); }
  // Other content, in the same room or in up to so much more. Writes the inode.
  Result<void> rewrite(Inode& inode, const std::vector<std::byte>& bytes);
  // The content moves to one block, which `fill` gives its content. Writes the inode.
  using Fill = std::function<Result<void>(std::uint64_t block)>;
  Result<void> move_out(Inode& inode, std::uint64_t new_size, const Fill& fill);
  // A file's content, one block long.
  Result<void> move_out(Inode& file, std::uint64_t new_size, const std::vector<std::byte>& content);
  // The content goes; the inode has an empty block map afterwards. Writes the inode.
  Result<void> drop(Inode& inode);

 private:
  Volume& volume_;
  BlockAllocator& blocks_;
  ExtentMap& extents_;
  XattrStore& xattrs_;
};

}  // namespace fuse4fs::ext4
