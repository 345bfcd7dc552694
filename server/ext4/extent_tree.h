// SPDX-License-Identifier: GPL-2.0-or-later
// One inode's extent tree: the way to a logical block, and changes of the leaf at its end.
//
// Each step leaves a valid tree: room is made first (by splits, and a root that moves down), then a leaf is
// changed. Where no block can be had for a node the map is what it was. The inode's i_block and its count of
// blocks are changed in `inode`, which must outlive this; whoever changes writes it.
//
// Locking: the lock of the inode; exclusive to change.
// Errors: EUCLEAN (told already, with inode and block), ENOSPC, EIO.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/extent_node.h"
#include "server/ext4/inode.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

// The root, which lies in the inode. EUCLEAN where its header cannot be.
Result<ExtentNode> extent_root(Volume& volume, const Inode& inode);
// Any other node: read, and judged when it comes into the cache. `buffer` holds it.
Result<ExtentNode> extent_node(Volume& volume, const Inode& inode, std::uint64_t block, int depth,
                               cache::Buffer& buffer);

class ExtentTree {
 public:
  ExtentTree(Volume& volume, BlockAllocator& blocks, Inode& inode)
      : volume_(volume), blocks_(blocks), inode_(inode) {}

  // Of one replace(): what convert() makes of one extent.
  static constexpr std::size_t kMostPieces = 6;

  // To the last extent that begins at or before `logical`.
  Result<void> seek(std::uint64_t logical);
  // That one, and its neighbours in the same leaf, if there are any.
  [[nodiscard]] std::optional<Mapping> before() const { return extent(way_[0].behind - 2); }
  [[nodiscard]] std::optional<Mapping> found() const { return extent(way_[0].behind - 1); }
  [[nodiscard]] std::optional<Mapping> after() const { return extent(way_[0].behind); }

  // Where the first extent of its leaf begins, and the last one ends; of one that has any.
  [[nodiscard]] std::uint64_t begin_of_leaf() const { return node(0).logical(0); }
  [[nodiscard]] std::uint64_t end_of_leaf() const { return node(0).extent(node(0).entries() - 1).end(); }

  // Into a hole. Joined with its neighbours where they go on with it.
  Result<void> insert(const Mapping& fresh);
  // `pieces`, in order and within found(), take its place; joined with the neighbours.
  Result<void> replace(std::span<const Mapping> pieces);
  // Where an extent goes on over `logical`, it ends there, and another begins.
  Result<void> split_at(std::uint64_t logical);
  // Of the leaf that seek() went to, all extents that begin at `first` or behind it, and were sought or lie
  // before that (kRight) or behind it (kLeft), go so many blocks in that direction. There is room.
  enum class Direction { kLeft, kRight };
  Result<void> shift(std::uint64_t first, std::uint64_t count, Direction direction);

 private:
  // From the leaf (0) up to the root.
  struct Level {
    cache::Buffer buffer;  // none: the root
    std::uint64_t block = 0;
    std::size_t behind = 0;  // entries that begin at or before what was sought
    // The link that was followed.
    [[nodiscard]] std::size_t child() const { return behind == 0 ? 0 : behind - 1; }
  };
  class Row;

  [[nodiscard]] ExtentNode node(std::size_t level) const;
  [[nodiscard]] bool is_root(std::size_t level) const { return level + 1 == levels_; }
  [[nodiscard]] std::optional<Mapping> extent(std::size_t index) const;

  // `row` stands for `removed` extents from `index` of the leaf on. False: room was made for it, and the way
  // is lost.
  Result<bool> put(std::size_t index, std::size_t removed, const Row& row);
  Result<void> splice(std::size_t level, std::size_t index, std::size_t removed,
                      std::span<const ExtentNode::Entry> added);
  Result<void> lower_first(std::size_t level);
  Result<void> drop_empty(std::size_t level);

  Result<void> make_room(std::size_t level);
  Result<void> split(std::size_t level);
  Result<void> grow();
  // A block for a node, counted in the inode.
  Result<std::uint64_t> add_node(int depth, std::span<const ExtentNode::Entry> entries);
  Result<void> free_node(std::uint64_t block);

  template <class Edit>
  Result<void> change(cache::Buffer& buffer, Edit edit);
  template <class Edit>
  Result<void> change(std::size_t level, Edit edit);

  Volume& volume_;
  BlockAllocator& blocks_;
  Inode& inode_;
  std::array<Level, kDeepestExtents + 1> way_;
  std::size_t levels_ = 0;
};

}  // namespace fuse4fs::ext4
