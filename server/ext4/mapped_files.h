// SPDX-License-Identifier: GPL-2.0-or-later
// What is known in memory of files whose data the caller moves (mapping_service.h) and the volume does not
// show yet: sizes that the caller has reached, writes that failed, blocks that were mapped ahead.
//
// Locking: any thread; one lock (rank kMappedFiles) for moments. Errors: none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/errno.h"
#include "base/guarded.h"
#include "server/ext4/block_runs.h"
#include "server/ext4/file_system.h"
#include "server/ext4/inode.h"

namespace fuse4fs::ext4 {

class MappedFiles {
 public:
  // In memory the caller has the file so long.
  void note_size(InodeNumber inode, std::uint64_t bytes);
  // The longer of that and what the volume shows.
  std::uint64_t end_of(const Inode& inode) { return std::max(inode.size(), size_of(inode.number)); }
  // What was noted; 0: nothing.
  [[nodiscard]] std::uint64_t size_of(InodeNumber inode);
  // Notes up to that are void: the file has that size, or another one by request.
  void forget_size(InodeNumber inode, std::uint64_t up_to);

  // The caller's data did not reach the volume: the first sync after it says so, once.
  void note_error(InodeNumber inode, Errno error);
  std::optional<Errno> take_error(InodeNumber inode);
  // Of any file, also of one that was forgotten since the last time.
  std::optional<Errno> any_error();

  // Those that have a size noted.
  std::vector<InodeNumber> all_with_size();

  // Blocks of the file that were mapped ahead of its needs, behind its end: from `first` on. From `floor` on
  // for the write that they lie behind, which may turn out to be shorter.
  struct Ahead {
    std::uint64_t floor = 0, first = 0, end = 0;
    [[nodiscard]] bool is_empty() const { return floor == end; }
  };
  // kDirectly: also, or only, past the page cache.
  enum class Written { kByPages, kDirectly };
  void note_ahead(InodeNumber inode, Ahead ahead);
  // The write ended at this block: what was mapped for it behind that is not used.
  void shorten(InodeNumber inode, std::uint64_t behind);
  // It has only so many blocks now.
  void cut(InodeNumber inode, std::uint64_t blocks);
  void forget_ahead(InodeNumber inode);
  // Blocks that were mapped beside a write in a hole, which nobody has asked for yet.
  void note_beside(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  // The caller asks for these, or has written them.
  void note_wanted(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  // The caller was given a mapping of these again: they do not leave yet.
  void note_handed_over(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  void forget_beside(InodeNumber inode);
  // kLeaving: of which the caller was told to forget its mappings, a while ago (age()).
  enum class Beside { kLeaving, kAll };
  [[nodiscard]] BlockRuns beside_of(InodeNumber inode, Beside which);
  // They are unmapped.
  void forget_beside(InodeNumber inode, const BlockRuns& gone);
  // Somebody asked for these: they stay.
  void forget_given(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  // While it has blocks that nobody asked for.
  void note_direct(InodeNumber inode);
  Written written(InodeNumber inode);
  // Of all files.
  std::uint64_t blocks_ahead();
  std::uint64_t blocks_beside();
  // It was asked for again: it is not idle.
  void note_use(InodeNumber inode);
  // To be written up to this block: of what lies ahead, so much may be in use from now on.
  void note_needed(InodeNumber inode, std::uint64_t behind);
  [[nodiscard]] Ahead ahead_of(InodeNumber inode);
  // A round of some seconds is over. Of those that are not written directly: who was not used for two rounds,
  // so the caller is to forget its mappings of what lies ahead; and for eight, so that may go. What lies
  // beside writes takes turns, however busy the file is, for who comes there after its mapping was forgotten
  // must ask.
  struct Idle {
    std::vector<InodeNumber> to_forget, to_trim;
    std::vector<InodeNumber> beside_to_forget, beside_to_trim;
  };
  Idle age();
  // It was not used since age() said that what lies ahead may go.
  [[nodiscard]] bool is_idle(InodeNumber inode);
  // Of those that have blocks which nobody asked for.
  std::vector<InodeNumber> all_with_given(Written written);

  [[nodiscard]] bool knows(InodeNumber inode);
  // Nobody knows the inode any more, or it is gone.
  void forget(InodeNumber inode);

 private:
  struct File {
    std::uint64_t size = 0;
    std::optional<Errno> error;
    Ahead ahead;
    BlockRuns beside, leaving;
    Written written = Written::kByPages;
    unsigned idle_rounds = 0, beside_rounds = 0;
    // The round in which it was used last may have begun a moment ago; and who has a mapping in his hands may
    // be waiting for the device.
    static constexpr unsigned kRoundsToForget = 2, kRoundsToTrim = 8;
    [[nodiscard]] std::uint64_t blocks_beside() const { return beside.count() + leaving.count(); }
    [[nodiscard]] bool has_given() const { return !ahead.is_empty() || blocks_beside() != 0; }
    [[nodiscard]] bool is_dull() const { return size == 0 && !error && !has_given(); }
  };
  struct Files {
    std::unordered_map<InodeNumber, File> known;
    std::uint64_t blocks_ahead = 0, blocks_beside = 0;
    std::optional<Errno> lost_error;  // of one that is not known any more
  };
  static void set_ahead(Files& files, File& file, Ahead ahead);
  // Does `change` to both sets.
  template <class Change>
  static void change_beside(Files& files, File& file, Change change);
  static void age_beside(InodeNumber inode, File& file, Idle& idle);
  // Of a file that may be none: nothing happens then.
  template <class Change>
  void change(InodeNumber inode, Change change);

  Guarded<Files, LockRank::kMappedFiles> files_;
};

}  // namespace fuse4fs::ext4
