// SPDX-License-Identifier: GPL-2.0-or-later
// How many extents a caller who asks for one (mapping_service.h) is given unasked, so that who goes through a
// fragmented file need not ask for each.
//
// A guess, of which a wrong one costs a question more or some mappings too many: the files that were asked
// for last are remembered in a table of fixed size. Locking: any thread; one lock (rank kMappingReadAhead)
// for moments.
#pragma once

#include <array>
#include <cstdint>

#include "base/guarded.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class MappingReadAhead {
 public:
  // A small file is given whole. As many as a leaf of an extent tree in blocks of 4 KiB has are the most.
  static constexpr unsigned kAtFirst = 8, kMost = 340;

  // The caller asks for the byte `offset`: so many extents behind the one that it lies in.
  unsigned extents(InodeNumber inode, std::uint64_t offset);
  // It has all up to this byte: if it asks for it next, it goes through the file.
  void reached(InodeNumber inode, std::uint64_t end);

 private:
  struct File {
    InodeNumber inode = 0;
    std::uint64_t end = 0;
    unsigned extents = 0;
  };
  using Table = std::array<File, 256>;
  static File& place(Table& table, InodeNumber inode) { return table[inode % table.size()]; }

  Guarded<Table, LockRank::kMappingReadAhead> table_;
};

}  // namespace fuse4fs::ext4
