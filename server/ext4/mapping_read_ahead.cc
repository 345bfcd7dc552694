// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/mapping_read_ahead.h"

#include <algorithm>

namespace fuse4fs::ext4 {

unsigned MappingReadAhead::extents(InodeNumber inode, std::uint64_t offset) {
  auto table = table_.lock();
  File& file = place(*table, inode);
  if (file.inode != inode)
    file = {.inode = inode, .extents = kAtFirst};
  else if (offset == file.end)
    file.extents = std::clamp(file.extents * 2, kAtFirst, kMost);
  else
    file.extents = 0;
  return file.extents;
}

void MappingReadAhead::reached(InodeNumber inode, std::uint64_t end) {
  auto table = table_.lock();
  File& file = place(*table, inode);
  if (file.inode == inode) file.end = end;
}

}  // namespace fuse4fs::ext4
