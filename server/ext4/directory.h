// SPDX-License-Identifier: GPL-2.0-or-later
// Directories: names to inodes, whatever the directory's form. Chooses between the classes of the forms:
// inside the inode, hashed (one block, or an index over many), or linear.
//
// On volumes with dir_index a directory of one block is hashed already: its listing's order and cookies stay
// when it gets an index. One of many blocks without an index was made by others, and stays linear.
//
// Locking: any thread that holds the directory's lock, shared to read, exclusive to change.
// Errors: EUCLEAN (told already), ENOSPC, EIO.
// Names were judged by the caller: 1 to 255 bytes, no '/', no NUL, neither "." nor "..".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/directory_store.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/htree.h"
#include "server/ext4/inline_data.h"
#include "server/ext4/inline_directory.h"
#include "server/ext4/inode.h"
#include "server/ext4/linear_directory.h"
#include "server/ext4/name_hash.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class Directory {
 public:
  // Names of linear directories kept in memory, of one and roughly of all: some 160 MB.
  static constexpr std::size_t kMostNames = 4'000'000;

  Directory(Volume& volume, BlockAllocator& blocks, ExtentMap& extents, InlineData& inline_data,
            std::size_t most_names = kMostNames)
      : volume_(volume),
        hasher_(volume),
        store_(volume, blocks, extents),
        inline_(volume, inline_data, store_, hasher_),
        linear_(store_, most_names),
        htree_(store_, hasher_) {}
  // Its parts know each other's places.
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // Where a name is or would be. For the next change of this directory, and for no other.
  using Position = HTree::Position;
  Result<Position> find_position(const Inode& directory, std::string_view name);
  Result<std::optional<InodeNumber>> find(const Inode& directory, std::string_view name);
  // The name is not there yet. Writes the inode, with its times; where it fails, too, if the directory grew.
  // An empty position is one that is not known, as in remove().
  Result<void> insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode,
                      Position position = {});
  // The name is there. Writes the inode, with its times.
  // An inode that lost a name and lives on with others. On the way to the device those come first
  // (write_order.h).
  struct Survivor {
    InodeNumber inode = 0;
    mode_t mode = 0;
    std::string_view new_name = {};  // what it was given instead, if that is in the same directory
  };
  using Survives = std::optional<Survivor>;
  Result<void> remove(Inode& directory, std::string_view name, Position position = {},
                      Survives survivor = std::nullopt);
  Result<void> replace(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode,
                       Survives survivor = std::nullopt);

  Result<bool> is_empty(const Inode& directory);
  Result<InodeNumber> parent_of(const Inode& directory);
  // Times stay.
  Result<void> set_parent(Inode& directory, InodeNumber parent);
  // A new one, inside its inode where that can be. The caller writes the inode.
  Result<void> make_empty(Inode& directory, InodeNumber parent);
  // The same, in a block. Does not write the inode.
  Result<void> make_first_block(Inode& directory, InodeNumber parent);

  // `sink` is called with the directory's lock held.
  Result<void> list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

  // Whether it has an index that is kept: with one, it may have more subdirectories than can be counted.
  [[nodiscard]] bool is_indexed(const Inode& directory) const;

  [[nodiscard]] std::size_t names_in_memory() const { return linear_.names_in_memory(); }
  // What is in memory about a directory that is gone.
  void forget(InodeNumber inode);

 private:
  enum class Form { kInline, kHashed, kLinear };
  [[nodiscard]] Form form_of(const Inode& directory) const;
  Result<void> write_touched(Inode& directory);
  void note_removed(const Inode& directory, std::string_view name, std::uint64_t block, Survives survivor);

  Volume& volume_;
  const NameHasher hasher_;
  DirectoryStore store_;
  InlineDirectory inline_;
  LinearDirectory linear_;
  HTree htree_;
};

}  // namespace fuse4fs::ext4
