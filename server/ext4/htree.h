// SPDX-License-Identifier: GPL-2.0-or-later
// Hashed directories: one block of entries, or an index over many of them (htree), ordered by the hash of the
// names. A directory becomes indexed when its first block is full.
//
// The whole index is walked once before its first use: each block has one place in it, and its hashes are in
// order. What is read later is judged block by block; a change of the index leaves it good at each step, so
// that what fails for want of room leaves the directory as it was, but for more room.
// Whether a directory is hashed at all is Directory's to say.
// Locking: any thread that holds the directory's lock, shared to read, exclusive to change.
// Errors: EUCLEAN (told already), ENOSPC (as ext4, also of a full index), EIO.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/ext4/directory_store.h"
#include "server/ext4/inode.h"
#include "server/ext4/name_hash.h"

namespace fuse4fs::ext4 {

class HashListing;

// What a look-up came to, for the change that follows it under the same lock: good until the directory
// changes.
struct HTreePosition {
  std::optional<InodeNumber> inode{};    // that the name leads to
  std::optional<DirectoryBlock> leaf{};  // where it is, or would be
  DirectoryEntries::Found place{};       // of the name, if it is there
  std::optional<std::size_t> roomy{};    // the entry behind which it has room, if not
};

class HTree {
 public:
  using Entry = DirectoryEntries::Entry;
  using Position = HTreePosition;

  HTree(DirectoryStore& store, const NameHasher& hasher) : store_(store), hasher_(hasher) {}

  Result<Position> find(const Inode& directory, std::string_view name);
  // The name is not there yet. Writes the inode only where the directory grew.
  Result<void> insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode,
                      Position position = {});
  // The name is there.
  // Answers in which block of the volume.
  Result<std::uint64_t> remove(const Inode& directory, std::string_view name, Position position = {});
  Result<std::uint64_t> replace(const Inode& directory, std::string_view name, InodeNumber inode,
                                mode_t mode);

  // `sink` is called with the directory's lock held. hash_listing.h says what cookies are.
  Result<void> list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

  // The inode that ".." leads to, of one with an index.
  Result<InodeNumber> parent_of(const Inode& directory);
  Result<void> set_parent(const Inode& directory, InodeNumber parent);

 private:
  struct Walk;
  // From the root to a leaf.
  struct Frame {
    DirectoryBlock block;
    DxNode::Kind kind = DxNode::Kind::kNode;
    std::size_t at = 0;
    [[nodiscard]] DxNode node() const { return {block.bytes(), kind}; }
    [[nodiscard]] DirectoryForm form() const {
      return kind == DxNode::Kind::kRoot ? DirectoryForm::kRoot : DirectoryForm::kNode;
    }
  };
  class Frames {
   public:
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] std::size_t size() const { return size_; }
    // NOLINTBEGIN(bugprone-unchecked-optional-access): those below size_ are there
    [[nodiscard]] Frame& operator[](std::size_t i) { return *frames_[i]; }
    [[nodiscard]] const Frame& operator[](std::size_t i) const { return *frames_[i]; }
    [[nodiscard]] Frame& front() { return *frames_[0]; }
    [[nodiscard]] Frame& back() { return *frames_[size_ - 1]; }
    [[nodiscard]] const Frame& back() const { return *frames_[size_ - 1]; }
    // NOLINTEND(bugprone-unchecked-optional-access)
    void push_back(Frame frame) { frames_[size_++].emplace(std::move(frame)); }
    void clear() { size_ = 0; }

   private:
    std::array<std::optional<Frame>, DxNode::kMostLevels> frames_;
    std::size_t size_ = 0;
  };
  struct Path {
    Frames frames;             // none: the directory is one block of entries
    std::uint32_t hash = 0;    // the least of the leaf
    std::uint8_t version = 0;  // of the hash
    // The hash from which on names lie in the next leaf; none at the end.
    [[nodiscard]] std::optional<std::uint32_t> next_hash() const;
    [[nodiscard]] std::uint32_t leaf() const;
  };

  // With the root, if there is one, and the hash's version; then down.
  Result<void> start(const Inode& directory, Path& path);
  Result<void> descend(const Inode& directory, Path& path, std::uint32_t hash);
  // To the next leaf; whether there was one.
  Result<bool> step(const Inode& directory, Path& path);
  // The names of one leaf that are not before those wanted.
  Result<void> collect(const Inode& directory, const Path& path, HashListing& listing);
  Result<void> check(const Inode& directory);
  Result<void> check_node(const Inode& directory, const DirectoryBlock& block, DxNode::Kind kind,
                          unsigned levels, Walk& walk);
  // htree_growth.cc
  Result<bool> insert_into_leaf(const Inode& directory, DirectoryBlock& leaf, std::string_view name,
                                InodeNumber inode, mode_t mode);
  Result<void> make_root(Inode& directory, DirectoryBlock& first);
  Result<void> grow(Inode& directory, Path& path, DirectoryBlock& leaf);
  Result<void> add_level(Inode& directory, Path& path);
  Result<void> split_node(Inode& directory, Path& path, std::size_t level);
  Result<void> split_leaf(Inode& directory, Path& path, DirectoryBlock& leaf);
  Result<void> repack(const Inode& directory, DirectoryBlock& leaf, std::span<const Entry> kept);

  DirectoryStore& store_;
  const NameHasher& hasher_;
};

}  // namespace fuse4fs::ext4
