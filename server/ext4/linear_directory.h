// SPDX-License-Identifier: GPL-2.0-or-later
// Directories without an index: entries in blocks, in no order.
//
// The names of larger ones are indexed in memory at the first look-up, so that neither a look-up nor an
// insert scans. Cookies are places in the directory: entries do not move. Locking: the metadata lock. Errors:
// EUCLEAN (told already), ENOSPC, EIO.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "server/ext4/directory_store.h"
#include "server/ext4/inode.h"

namespace fuse4fs::ext4 {

class LinearDirectory {
 public:
  LinearDirectory(DirectoryStore& store, std::size_t most_names) : store_(store), most_names_(most_names) {}

  Result<std::optional<InodeNumber>> find(const Inode& directory, std::string_view name);
  // The name is not there yet. Writes the inode only where the directory grew.
  Result<void> insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);
  // The name is there.
  Result<void> remove(const Inode& directory, std::string_view name);
  Result<void> replace(const Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);
  // `sink` is called with the metadata lock held.
  Result<void> list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

  [[nodiscard]] std::size_t names_in_memory() const;
  void forget(InodeNumber inode) { states_.erase(inode); }

 private:
  using Entry = DirectoryEntries::Entry;
  struct Place {
    std::uint32_t block = 0;
    std::uint32_t offset = 0;
  };
  struct State {
    bool loaded = false;   // all was read once: `room`, and `names` if `indexed`
    bool indexed = false;  // `names` is complete; else it is empty, and the blocks are scanned
    std::unordered_multimap<std::size_t, Place> names;
    std::vector<std::uint32_t> room;  // the longest entry that fits into a block
    std::uint64_t last_used = 0;
  };
  struct Found {
    DirectoryBlock block;
    DirectoryEntries::Found place;
  };

  State& state_of(InodeNumber number);
  Result<State*> loaded(const Inode& directory);
  void remember_name(State& state, std::string_view name, Place place);
  static void forget_name(State& state, std::string_view name, Place place);
  Result<std::optional<Found>> locate(const Inode& directory, std::string_view name);
  Result<void> insert_into(const Inode& directory, State& state, std::uint32_t index, std::string_view name,
                           InodeNumber inode, mode_t mode);
  [[nodiscard]] std::uint32_t room_in(std::span<const std::byte> block) const;

  DirectoryStore& store_;
  const std::size_t most_names_;
  std::unordered_map<InodeNumber, State> states_;
  std::uint64_t clock_ = 0;
};

}  // namespace fuse4fs::ext4
