// SPDX-License-Identifier: GPL-2.0-or-later
// Directories without an index: entries in blocks, in no order.
//
// The names of larger ones are indexed in memory at the first look-up, so that neither a look-up nor an
// insert scans. Cookies are places in the directory: entries do not move.
// Locking: any thread that holds the directory's lock, shared to read, exclusive to change. Many may index
// one at once, or many; the names of all that are in memory are under a lock of their own (rank
// kDirectoryPlaces, for moments, no I/O under it). Errors: EUCLEAN (told already), ENOSPC, EIO.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/guarded.h"
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
  // Answers in which block of the volume.
  Result<std::uint64_t> remove(const Inode& directory, std::string_view name);
  Result<std::uint64_t> replace(const Inode& directory, std::string_view name, InodeNumber inode,
                                mode_t mode);
  // `sink` is called with the directory's lock held.
  Result<void> list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

  [[nodiscard]] std::size_t names_in_memory() const;
  void forget(InodeNumber inode) { const auto gone = states_.lock()->extract(inode); }

 private:
  using Entry = DirectoryEntries::Entry;
  struct Place {
    std::uint32_t block = 0;
    std::uint32_t offset = 0;
  };
  // Of one directory, of which all was read once. Under the directory's lock, as its blocks are.
  class State {
   public:
    // `all`: the names in memory of all directories.
    explicit State(std::atomic<std::size_t>& all) : all_(all) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() { all_ -= size_; }

    // Without the names it is scanned: there were too many, of it or of all.
    [[nodiscard]] bool is_indexed() const { return indexed_; }
    [[nodiscard]] const std::unordered_multimap<std::size_t, Place>& names() const { return names_; }
    void remember(std::string_view name, Place place, std::size_t most);
    void forget(std::string_view name, Place place);
    // Any thread.
    [[nodiscard]] std::size_t size() const { return size_; }

    std::vector<std::uint32_t> room;  // the longest entry that fits into a block
    std::uint64_t last_used = 0;      // under the lock of all

   private:
    std::atomic<std::size_t>& all_;
    bool indexed_ = true;  // `names_` is complete; else it is empty
    std::unordered_multimap<std::size_t, Place> names_;
    std::atomic<std::size_t> size_{0};
  };
  using States = std::unordered_map<InodeNumber, std::shared_ptr<State>>;
  struct Found {
    DirectoryBlock block;
    DirectoryEntries::Found place;
  };

  // Nothing where it is not in memory.
  std::shared_ptr<State> known(InodeNumber number);
  // Answers what it takes out: to be let go without the lock, for that may take long.
  [[nodiscard]] std::vector<std::shared_ptr<State>> make_room(States& states) const;
  Result<std::shared_ptr<State>> loaded(const Inode& directory);
  Result<std::optional<Found>> locate(const Inode& directory, std::string_view name);
  Result<void> insert_into(const Inode& directory, State& state, std::uint32_t index, std::string_view name,
                           InodeNumber inode, mode_t mode);
  [[nodiscard]] std::uint32_t room_in(std::span<const std::byte> block) const;

  DirectoryStore& store_;
  const std::size_t most_names_;
  std::atomic<std::size_t> names_{0};  // of all States, those included that are still being loaded
  std::atomic<std::uint64_t> clock_{0};
  Guarded<States, LockRank::kDirectoryPlaces> states_;
};

}  // namespace fuse4fs::ext4
