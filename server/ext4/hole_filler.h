// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks for the holes of a file: taken first, and mapped when it is known what they hold.
//
// Locking: the inode's lock; exclusive but for fill() and abandon(). A handle.
// Errors: ENOSPC, EUCLEAN (told), EIO.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

class HoleFiller {
 public:
  HoleFiller(Volume& volume, Metadata& metadata) : volume_(volume), metadata_(metadata) {}

  // A stretch of a write. `fresh` clusters were taken for it and are not mapped yet.
  struct Piece {
    Mapping where;
    std::uint64_t fresh = 0;
    BlockRun taken;
    bool mapped = true;
    // The map does not show it yet, or not as written.
    [[nodiscard]] bool is_news() const { return !mapped || where.kind == Mapping::Kind::kUnwritten; }
  };
  // Appends blocks for `hole`. After an error some may be there. `ahead`: blocks that the file will probably
  // want behind these.
  Result<void> fill(Inode& inode, Mapping hole, std::uint64_t ahead, std::vector<Piece>& pieces);
  // Gives back those that are not mapped.
  void abandon(InodeNumber number, const std::vector<Piece>& pieces);
  // The piece becomes the file's. The caller writes the inode.
  Result<void> map(Inode& inode, Piece& piece, Mapping::Kind kind);
  // Credits for another change of the map: where the log has no room, under another handle. The inode is
  // consistent now.
  Result<void> go_on(const Inode& inode);
  // All holes of the range become unwritten. Moves `first` over what is allocated when it returns.
  Result<void> allocate_unwritten(Inode& inode, std::uint64_t& first, std::uint64_t count);

 private:
  Volume& volume_;
  Metadata& metadata_;
};

}  // namespace fuse4fs::ext4
