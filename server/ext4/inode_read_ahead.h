// SPDX-License-Identifier: GPL-2.0-or-later
// When to read more of an inode table than the block that is wanted.
//
// Files of one directory are mostly neighbours in the table, though a listing has them in no order. So a
// table is seen in pieces, of as many blocks as the kernel's inode_readahead_blks (32). Who misses a block
// whose neighbour was missed before, or comes to a piece again and again, gets the piece; who comes once gets
// his block. Where a piece was read and is missed all the same, the memory does not suffice for all that is
// looked at: then it takes twice as many misses the next time.
//
// Units: blocks are those of the volume. Locking: any thread, without a lock; two threads in one piece at a
// time may count one miss too few. Errors: none.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace fuse4fs::ext4 {

class InodeReadAhead {
 public:
  static constexpr std::uint64_t kPiece = 32;  // blocks

  // `block` is missed. Whether its whole piece is worth a read now; pieces begin at multiples of kPiece.
  [[nodiscard]] bool missed(std::uint64_t block);

 private:
  // Of a piece, in one word, so that it is read and replaced at once.
  struct Misses {
    std::uint32_t piece = 0;
    std::uint8_t last = 0;    // which of its blocks
    std::uint8_t count = 0;   // since it was read
    std::uint8_t wanted = 0;  // before it is read
  };
  static constexpr std::uint8_t kFirstWanted = 3, kMostWanted = 96;
  // A piece takes the place of another one: what is forgotten costs a few misses.
  std::array<std::atomic<Misses>, 1024> misses_{};
  static_assert(std::atomic<Misses>::is_always_lock_free);
};

}  // namespace fuse4fs::ext4
