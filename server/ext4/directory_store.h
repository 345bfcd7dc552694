// SPDX-License-Identifier: GPL-2.0-or-later
// The blocks of directories: where they lie, read and judged, changed, one more at the end.
//
// Blocks are named by their place in the directory (0 is the first). In memory stays, for each directory that
// was used lately, the list of where its blocks lie; a block that the directory holds twice is found then.
// Locking: any thread that holds the directory's lock, shared to read, exclusive to change. Many may learn at
// once where the blocks of one lie, or of many; what is in memory of all of them is under a lock of its own
// (rank kDirectoryPlaces, for moments, no I/O under it). Errors: EUCLEAN (told already, with inode and
// block), ENOSPC, EIO.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/block_allocator.h"
#include "server/ext4/directory_entries.h"
#include "server/ext4/dx_node.h"
#include "server/ext4/extent_map.h"
#include "server/ext4/inode.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

// What a block of a directory is.
enum class DirectoryForm { kEntries, kRoot, kNode };

// Held, it stays in the cache.
class DirectoryBlock {
 public:
  [[nodiscard]] std::uint32_t index() const { return index_; }
  [[nodiscard]] std::uint64_t physical() const { return buffer_.block(); }
  // Nobody has made something else of it meanwhile.
  [[nodiscard]] bool is_unchanged_by_others() const { return buffer_.keeps_role(); }
  // To be taken anew after a change.
  [[nodiscard]] std::span<const std::byte> bytes() const { return buffer_.bytes(); }

 private:
  friend class DirectoryStore;
  DirectoryBlock(std::uint32_t index, cache::Buffer buffer) : index_(index), buffer_(std::move(buffer)) {}
  std::uint32_t index_;
  cache::Buffer buffer_;
};

class DirectoryStore {
 public:
  // Of blocks whose places are kept in memory, of all directories: some 64 MB.
  static constexpr std::size_t kMostPlaces = 8'000'000;

  DirectoryStore(Volume& volume, BlockAllocator& blocks, ExtentMap& extents,
                 std::size_t most_places = kMostPlaces)
      : volume_(volume), blocks_(blocks), extents_(extents), entries_(volume), most_places_(most_places) {}

  [[nodiscard]] const DirectoryEntries& entries() const { return entries_; }
  [[nodiscard]] DxNode::Format index_format() const;

  Result<std::uint32_t> count(const Inode& directory);
  Result<DirectoryBlock> read(const Inode& directory, std::uint32_t index, DirectoryForm form);
  // `edit` gets the bytes, to make them what `form` says. The checksum is seen to here.
  template <class Edit>
  Result<void> change(const Inode& directory, DirectoryBlock& block, DirectoryForm form, Edit edit) {
    ASSIGN_OR_RETURN(const cache::Change change, begin(directory, block));
    edit(change.bytes());
    finish(directory, block, change, form);
    return {};
  }
  // One more at the end, of zeros before `fill` gets it. Writes the inode, with its new size. All or nothing.
  template <class Fill>
  Result<DirectoryBlock> append(Inode& directory, DirectoryForm form, Fill fill) {
    ASSIGN_OR_RETURN(const Place place, place_for_next(directory));
    auto block = fresh(directory, place.index, place.physical, form);
    Result<void> done;
    if (block) done = change(directory, *block, form, fill);
    RETURN_IF_ERROR(attach(directory, place, block ? done : fail(block.error())));
    return block;
  }
  // The first one of a directory that has none. Does not write the inode.
  template <class Fill>
  Result<void> make_first(Inode& directory, Fill fill) {
    forget(directory.number);
    ASSIGN_OR_RETURN(const BlockRun run, blocks_.take(directory, extents_.goal_for(directory, 0)));
    return attach_first(directory, run, fill_first(directory, run.first, fill));
  }
  // Of a block that was taken for the first one, which nothing leads to yet.
  template <class Fill>
  Result<void> fill_first(const Inode& directory, std::uint64_t physical, Fill fill) {
    ASSIGN_OR_RETURN(DirectoryBlock block, fresh(directory, 0, physical, DirectoryForm::kEntries));
    return change(directory, block, DirectoryForm::kEntries, fill);
  }

  // Credits for a split that only a damaged index wants.
  void ensure_split();

  // Sets the checksum, where the volume has them.
  void seal(const Inode& directory, std::span<std::byte> bytes, DirectoryForm form) const;

  // The entry ".." of a first block that is one of entries.
  struct DotDot {
    DirectoryBlock block;
    DirectoryEntries::Entry entry;
  };
  Result<DotDot> dotdot(const Inode& directory);
  Result<void> set_dotdot(const Inode& directory, InodeNumber parent);

  // Whether the index of this directory was walked once and found good. Forgotten with its places.
  Result<bool> is_checked(const Inode& directory);
  void note_checked(const Inode& directory);

  void forget(InodeNumber inode);

  Result<void> write_inode(Inode& directory) { return volume_.write_inode(directory); }
  // What no bytes show: told, with inode and block. For what was read from `block`.
  Errno corrupted(const Inode& directory, std::uint64_t block, std::string_view words) {
    return volume_.corrupted(directory.number, block, words);
  }

 private:
  // Whoever reads the directory may hold one that is not in memory any more.
  struct Known {
    explicit Known(std::vector<std::uint64_t> of) : places(std::move(of)) { make_room_for_marks(); }
    void make_room_for_marks();

    // Grow under the directory's exclusive lock, and the state's.
    std::vector<std::uint64_t> places;
    std::vector<std::uint8_t> fetched;  // of each kFetched places: they were read ahead. By atomic_ref.
    std::atomic<bool> checked{false};
    std::uint64_t last_used = 0;  // under the state's lock
  };
  struct State {
    std::unordered_map<InodeNumber, std::shared_ptr<Known>> known;
    std::size_t places = 0;
    std::uint64_t clock = 0;
    void forget(InodeNumber inode);
    [[nodiscard]] std::shared_ptr<Known> find(InodeNumber inode) const;
  };
  struct Place {
    std::uint32_t index = 0;
    std::uint64_t physical = 0;
    BlockRun fresh;  // what was taken for it; nothing where its cluster was there already
  };

  Result<std::shared_ptr<Known>> known(const Inode& directory);
  Result<std::vector<std::uint64_t>> load(const Inode& directory);
  void make_room(State& state, std::size_t places) const;
  // What is wrong with a block; empty if nothing.
  [[nodiscard]] std::string judge(const Inode& directory, std::span<const std::byte> bytes,
                                  DirectoryForm form) const;
  void read_ahead(Known& directory, std::uint32_t index);
  [[nodiscard]] std::uint32_t checksum_of(const Inode& directory, std::span<const std::byte> bytes,
                                          DirectoryForm form) const;
  Result<DirectoryBlock> fresh(const Inode& directory, std::uint32_t index, std::uint64_t physical,
                               DirectoryForm form);
  Result<cache::Change> begin(const Inode& directory, DirectoryBlock& block);
  void finish(const Inode& directory, DirectoryBlock& block, const cache::Change& change, DirectoryForm form);
  Result<Place> place_for_next(Inode& directory);
  // Undoes what was taken where `written` is a failure, or the map cannot take it.
  Result<void> attach(Inode& directory, const Place& place, const Result<void>& written);
  Result<void> attach_first(Inode& directory, BlockRun run, const Result<void>& written);

  Volume& volume_;
  BlockAllocator& blocks_;
  ExtentMap& extents_;
  const DirectoryEntries entries_;
  const std::size_t most_places_;
  Guarded<State, LockRank::kDirectoryPlaces> state_;
};

}  // namespace fuse4fs::ext4
