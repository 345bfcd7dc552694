// SPDX-License-Identifier: GPL-2.0-or-later
// In which order the blocks of a write-back go to the device, on a volume without a journal, so that whatever
// a power cut leaves of it e2fsck finds every file that was synced and not changed since under its name.
//
// A write-back has all that is dirty at one moment. Its blocks go in steps; between two steps that both have
// something the device is flushed:
//
//  1. Fresh blocks: allocated since the last write-back, so that nothing on the device leads to them (new
//     leaves and nodes of directories, of extent trees; blocks of attributes and of long symbolic links).
//     Here or in the next step, since no order matters to them: bitmaps, descriptors, superblocks. e2fsck
//     makes those anew from the inodes.
//  2. Inodes. What moved out of one into a block (names of a small directory, extents of a root that grew)
//     is there already. A name never leads to an inode that was not written (step 3 comes later).
//  3. Blocks that were there before: directories, maps, attributes.
//     - A leaf that was split lost half of its names to a fresh block, which is part of the directory by now
//       (steps 1 and 2; maps first, see below). Until its index says so, names are there twice, and the index
//       does not know the new leaf: e2fsck makes the index anew and drops the second one of two equal names.
//       The same where an index grows a level, or a directory of one block gets its first one.
//     - An extent node that was split must lose its half after its parent knows the fresh one. So where
//       trees took blocks since the last write-back, their nodes go before the other blocks,
//       level by level from the root's children down, as steps of their own. Otherwise they go with step 2.
//     - A name that was removed from an inode that lives on with another name (rename, unlink of one of
//       several links): that other name may be in a block of this step as well. So the block goes with the
//       old name put in again; without it comes in step 5. The same in step 1, where a split had moved the
//       old name to a fresh leaf before it was removed.
//     - An inode whose name was given to another one (rename over a file) is still alive in step 2, as it was
//       before that, or its name would lead nowhere in between. That it is gone is written in step 5.
//  4. Directories inside of inodes, of which step 2 wrote an earlier state since names moved away from them.
//     Directory blocks where the old name had been given to another inode already, or that had no room for it
//     (those were left out in step 3).
//  5. The directory blocks of which step 3 wrote more than there is. The inodes that step 2 left alive: until
//     step 4 arrived, an old state of a directory may lead to them.
//
// Link counts: never too small for the names on the device but between steps 2 and 3, and never 0 there while
// a name that is to stay leads to it; e2fsck counts them anew. Numbers of what was freed are not given out
// before all of it is on the medium (unreleased.h), so nothing old leads to something new.
//
// Data of files is on the device before the inode that tells of it, but perhaps not on the medium: as with
// ext2, what a file was given after its last sync may show what its blocks held before.
//
// Not kept: RENAME_EXCHANGE, half of which may arrive (one of the two is then found in lost+found). Blocks
// arrive whole or not at all; one that is torn is for a journal to mend.
//
// A name that moves to a directory inside of an inode, from which others moved away since the last write-back
// began, would be in neither of the two while step 4 is written, if both took names of each other. There is
// no order for that: the operation ends with kWriteBackFirst, and is tried again behind a write-back. The
// same where a directory moves into one that moved itself since then, or lies in such a one: while both names
// of both are there (steps 3 and 4), each might hold the other, and e2fsck would find them in a circle. And
// where a directory is removed that names were moved out of: step 2 writes that it is gone, step 3 their new
// places.
//
// Locking: any thread; one lock (rank kWriteOrder) for moments. plan() works on what it is given.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/errno.h"
#include "base/guarded.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/block_runs.h"
#include "server/ext4/file_system.h"
#include "server/ext4/unreleased.h"

namespace fuse4fs::ext4 {

class Volume;

// A name that was removed, or given to another inode, while its inode has other names.
struct RemovedName {
  InodeNumber directory = 0;
  std::uint32_t generation = 0;  // the directory's
  std::string name;
  InodeNumber inode = 0;
  mode_t mode = 0;
  // The name that it has instead, where that is in the same directory: in the same block it needs no order.
  std::string new_name;
};

// An inode as it was, as its table had it.
struct EarlierInode {
  // What for: names that left a directory inside of it; or itself, whose name was given to another inode.
  enum class Keeps { kNames, kLife };
  std::uint64_t block = 0;
  std::size_t offset = 0;  // bytes
  std::vector<std::byte> bytes;
  Keeps keeps = Keeps::kNames;
};

// What matters to the order, and happened since a write-back began.
struct OrderNotes {
  BlockRuns taken;                                                              // file data's among them
  std::multimap<std::uint64_t, RemovedName> removed_names;                      // by block
  std::map<std::uint64_t, std::map<InodeNumber, EarlierInode>> earlier_inodes;  // by block of the table
  std::unordered_set<InodeNumber> left_by_names;      // of these, what kNames is for
  std::unordered_set<InodeNumber> moved_directories;  // to other ones
  std::unordered_set<InodeNumber> named_anew;         // by a rename or a link
  std::unordered_set<InodeNumber> left_directories;   // by one of these
  bool trees_grew = false;
  bool contents_moved = false;
};

// Never the caller's: Ext4FileSystem writes back and tries again.
inline constexpr Errno kWriteBackFirst{EAGAIN};

class WriteOrder {
 public:
  explicit WriteOrder(Volume& volume) : volume_(volume) {}

  [[nodiscard]] Unreleased& unreleased() { return unreleased_; }

  void note_taken(std::uint64_t first, std::uint64_t count) { notes_.lock()->taken.add(first, count); }
  // A tree took a block.
  void note_tree_grew() { notes_.lock()->trees_grew = true; }
  // From an inode into a block that does not pass the cache.
  void note_contents_moved() { notes_.lock()->contents_moved = true; }
  void note_removed(std::uint64_t block, RemovedName name) {
    notes_.lock()->removed_names.emplace(block, std::move(name));
  }
  // The first one of an inode counts, but that it is gone comes last.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): it is moved
  void note_earlier(InodeNumber number, EarlierInode image) {
    const auto keeps = image.keeps;
    auto notes = notes_.lock();
    if (keeps == EarlierInode::Keeps::kNames) notes->left_by_names.insert(number);
    const auto [known, is_first] = notes->earlier_inodes[image.block].try_emplace(number, std::move(image));
    if (keeps == EarlierInode::Keeps::kLife) known->second.keeps = keeps;
  }

  // A name left this directory, which lies inside of its inode, since the last write-back began: what comes
  // to it now is shown only in step 4. A name of an inode that has another one must not: see kWriteBackFirst.
  [[nodiscard]] bool is_left_by_names(InodeNumber directory) {
    auto notes = notes_.lock();
    return !notes->left_by_names.empty() && notes->left_by_names.contains(directory);
  }

  void note_moved_directory(InodeNumber directory) { notes_.lock()->moved_directories.insert(directory); }
  [[nodiscard]] bool is_moved_directory(InodeNumber directory) {
    auto notes = notes_.lock();
    return !notes->moved_directories.empty() && notes->moved_directories.contains(directory);
  }

  // The inode has got another name.
  void note_named(InodeNumber inode) { notes_.lock()->named_anew.insert(inode); }
  // A name of the inode, which has others, left the directory. Whether it comes to that depends on
  // note_named(): otherwise the others were there all the time.
  void note_left(InodeNumber directory, InodeNumber inode) {
    auto notes = notes_.lock();
    if (notes->named_anew.contains(inode)) notes->left_directories.insert(directory);
  }
  // Names were moved out of this directory: it must not go before their new places are written.
  [[nodiscard]] bool is_left_directory(InodeNumber directory) {
    auto notes = notes_.lock();
    return !notes->left_directories.empty() && notes->left_directories.contains(directory);
  }

  // Something waits for a write-back that may have nothing else to write.
  [[nodiscard]] bool wants_write_back() {
    auto notes = notes_.lock();
    return !notes->left_by_names.empty() || !notes->moved_directories.empty() ||
           !notes->left_directories.empty();
  }

  // A write-back begins: all notes so far are about its blocks.
  [[nodiscard]] OrderNotes begin() {
    unreleased_.begin();
    return std::exchange(*notes_.lock(), {});
  }

  struct Item {
    std::size_t index = 0;         // of WriteBack::blocks()
    std::vector<std::byte> image;  // in place of its bytes, which come in a later step; empty: its own
  };
  using Step = std::vector<Item>;
  // Steps without anything are left out.
  [[nodiscard]] std::vector<Step> plan(const std::vector<cache::WriteBack::Block>& blocks,
                                       const OrderNotes& notes) const;

 private:
  struct Steps;
  void place_inodes(const cache::WriteBack::Block& block, std::size_t index, const OrderNotes& notes,
                    Steps& steps) const;
  void place_names(const cache::WriteBack::Block& block, std::size_t index, const OrderNotes& notes,
                   Steps& steps) const;

  Volume& volume_;
  Unreleased unreleased_;
  Guarded<OrderNotes, LockRank::kWriteOrder> notes_;
};

}  // namespace fuse4fs::ext4
