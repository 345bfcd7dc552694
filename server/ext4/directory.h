// SPDX-License-Identifier: GPL-2.0-or-later
// Directories: names to inodes, in blocks or inside the inode.
//
// The names of larger directories are indexed in memory at the first look-up, so that neither a look-up nor
// an insert scans. The index on the volume (htree) is kept by removals and dropped by the first insert, as
// libext2fs does: such a directory is linear for the kernel until `e2fsck -D`.
//
// Locking: the metadata lock. Errors: EUCLEAN (told already), ENOSPC, EIO.
// Names were judged by the caller: 1 to 255 bytes, no '/', no NUL, neither "." nor "..".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inline_data.h"
#include "server/ext4/inode.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class Directory {
 public:
  // Names kept in memory, of one directory and roughly of all: some 160 MB.
  static constexpr std::size_t kMostNames = 4'000'000;

  Directory(Volume& volume, BlockAllocator& blocks, ExtentMap& extents, InlineData& inline_data,
            std::size_t most_names = kMostNames)
      : volume_(volume),
        blocks_(blocks),
        extents_(extents),
        inline_data_(inline_data),
        most_names_(most_names) {}

  Result<std::optional<InodeNumber>> find(Inode& directory, std::string_view name);
  // The name is not there yet. Writes the inode, with its times.
  Result<void> insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);
  // The name is there. Writes the inode, with its times.
  Result<void> remove(Inode& directory, std::string_view name);
  Result<void> replace(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);

  Result<bool> is_empty(Inode& directory);
  // How many; unknown inside an inode, and where the volume does not store what a name leads to.
  Result<std::optional<std::size_t>> subdirectories(Inode& directory);
  Result<InodeNumber> parent_of(Inode& directory);
  // Times stay.
  Result<void> set_parent(Inode& directory, InodeNumber parent);
  // The first block of a new one. Does not write the inode.
  Result<void> make_first_block(Inode& directory, InodeNumber parent);

  // `sink` is called with the metadata lock held.
  Result<void> list(Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

  [[nodiscard]] std::size_t names_in_memory() const;
  // What is in memory about a directory that is gone.
  void forget(InodeNumber inode) { states_.erase(inode); }

 private:
  struct Entry {
    std::size_t offset = 0;  // in its block
    std::size_t length = 0;  // to the next
    InodeNumber inode = 0;
    std::uint8_t type = 0;  // EXT2_FT_*
    std::string_view name;
  };
  struct Place {
    std::uint32_t block = 0;
    std::uint32_t offset = 0;
  };
  struct State {
    std::vector<std::uint64_t> blocks;  // where they lie
    bool named = false;    // all was read once: `room`, `subdirectories`, and `names` if `indexed`
    bool indexed = false;  // `names` is complete; else it is empty, and the blocks are scanned
    std::unordered_multimap<std::size_t, Place> names;
    std::vector<std::uint32_t> room;  // the longest entry that fits into a block
    std::size_t subdirectories = 0;   // entries of that type
    std::uint64_t last_used = 0;
  };
  using Bytes = std::vector<std::byte>;

  Result<State*> state_of(const Inode& directory);
  Result<void> load_names(const Inode& directory, State& state);
  void make_room_for_state();
  void remember_entry(State& state, std::uint8_t type, std::string_view name, Place place);

  Result<void> read_block(const Inode& directory, std::uint64_t physical, Bytes& into);
  Result<void> write_block(const Inode& directory, std::uint64_t physical, Bytes& bytes);
  Result<Entry> entry_at(const Inode& directory, std::span<const std::byte> bytes, std::size_t offset,
                         std::uint64_t block);
  [[nodiscard]] std::size_t end_of_entries(std::span<const std::byte> block) const;
  void put_entry(std::span<std::byte> bytes, std::size_t offset, std::size_t length, InodeNumber inode,
                 std::string_view name, mode_t mode);
  void set_length(std::span<std::byte> bytes, std::size_t offset, std::size_t length);
  // What a fresh block ends with; answers where its entries end.
  std::size_t put_tail(Bytes& block);
  [[nodiscard]] std::uint8_t type_of(mode_t mode) const;

  // Entries of a block until `visit` answers false.
  template <class Visit>
  Result<void> each_entry(const Inode& directory, std::span<const std::byte> bytes, std::size_t begin,
                          std::size_t end, std::uint64_t block, Visit visit);

  struct Found {
    Place place;
    InodeNumber inode = 0;
  };
  Result<std::optional<Found>> locate(const Inode& directory, State& state, std::string_view name,
                                      Bytes& block);
  Result<bool> insert_into(Inode& directory, State& state, std::size_t index, std::string_view name,
                           InodeNumber inode, mode_t mode);
  Result<void> append_block(Inode& directory, State& state, std::string_view name, InodeNumber inode,
                            mode_t mode);
  Result<void> drop_index(Inode& directory, State& state);
  Result<void> write_touched(Inode& directory);

  // Directories inside their inode: directory_inline.cc.
  template <class Visit>
  Result<void> each_inline_entry(const Inode& directory, const Bytes& bytes, Visit visit);
  Result<void> move_out(Inode& directory);
  Result<std::optional<InodeNumber>> find_inline(Inode& directory, std::string_view name);
  // With 0 for the inode, the name goes.
  Result<void> change_inline(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);
  Result<void> list_inline(Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

  Volume& volume_;
  BlockAllocator& blocks_;
  ExtentMap& extents_;
  InlineData& inline_data_;
  const std::size_t most_names_;
  std::unordered_map<InodeNumber, State> states_;
  std::uint64_t clock_ = 0;
};

// DT_* of readdir(3) from EXT2_FT_*.
std::uint8_t entry_type(std::uint8_t on_volume);

// Bytes that an entry with a name of this length needs.
constexpr std::size_t entry_length(std::size_t name_length) {
  return (8 + name_length + 3) & ~std::size_t{3};
}

template <class Visit>
Result<void> Directory::each_entry(const Inode& directory, std::span<const std::byte> bytes,
                                   std::size_t begin, std::size_t end, std::uint64_t block, Visit visit) {
  for (std::size_t at = begin; at < end;) {
    auto entry = entry_at(directory, bytes.first(end), at, block);
    if (!entry) return fail(entry.error());
    at += entry->length;
    if (!visit(*entry)) break;
  }
  return {};
}

}  // namespace fuse4fs::ext4
