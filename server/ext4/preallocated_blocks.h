// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks files were given before they need them (speculative_preallocation.h), and whether the caller
// may still have mappings of those.
//
// They are taken back in three steps. Their departure begins; the caller forgets its mappings of them, and
// that is noted; and after a time in which transfers that had such a mapping in hand come to their end, they
// may go. A mapping of them that is handed over meanwhile ends the departure, at whatever step it is, or what
// leaves begins behind it: both are noted under the inode's lock, which is held exclusively where a departure
// begins and where blocks are unmapped.
//
// Locking: any thread; one lock (rank kPreallocatedBlocks) for moments. Errors: none.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/guarded.h"
#include "server/ext4/block_runs.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class PreallocatedBlocks {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;
  using Clock = std::function<TimePoint()>;
  explicit PreallocatedBlocks(Clock clock) : clock_(std::move(clock)) {}

  // Behind the file's end: from `first` on. From `floor` on for the write that they lie behind, which may
  // turn out to be shorter.
  struct Ahead {
    std::uint64_t floor = 0, first = 0, end = 0;
    [[nodiscard]] bool is_empty() const { return floor == end; }
  };
  void note_ahead(InodeNumber inode, Ahead ahead);
  // A write that was to end before block `asked` ended before block `behind`: what was mapped for it between
  // is not used, if it was the last one.
  void shorten(InodeNumber inode, std::uint64_t asked, std::uint64_t behind);
  // All, or from this block on.
  void forget_ahead(InodeNumber inode, std::uint64_t from = 0);
  [[nodiscard]] Ahead ahead_of(InodeNumber inode);
  std::uint64_t blocks_ahead();  // of all files

  // Beside a write in a hole.
  void note_beside(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  void forget_beside(InodeNumber inode);
  void forget_beside(InodeNumber inode, const BlockRuns& gone);
  [[nodiscard]] BlockRuns beside_of(InodeNumber inode);
  [[nodiscard]] std::uint64_t blocks_beside_of(InodeNumber inode);
  std::uint64_t blocks_beside();  // of all files

  // The caller asks to write there.
  void note_asked(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  // They hold data, or nothing at all any more.
  void note_settled(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  // Somebody asked for these, or has them punched out: not to be taken back.
  void disown(InodeNumber inode, std::uint64_t first, std::uint64_t end);
  // It has only so many blocks now.
  void cut(InodeNumber inode, std::uint64_t blocks);
  // Nobody knows the inode any more, or it is gone.
  void forget(InodeNumber inode);
  [[nodiscard]] bool knows(InodeNumber inode);

  void note_use(InodeNumber inode);
  // kDirectly: also, or only, past the page cache; while it has any.
  enum class Written { kByPages, kDirectly };
  void note_direct(InodeNumber inode);
  Written written(InodeNumber inode);
  // Of those that have any.
  std::vector<InodeNumber> all(Written written);

  // What is due. Of files that are not written directly: who has blocks ahead and was not used for a while;
  // what lies beside writes takes its turn however busy the file is.
  struct Due {
    std::vector<InodeNumber> ahead_to_forget, ahead_to_trim;
    std::vector<InodeNumber> beside_to_forget, beside_to_trim;
  };
  Due due();

  // kRoom: what lies ahead is not to be handed over any more (end_to_hand_over()).
  enum class Why { kIdle, kRoom };
  // From this block on, which lies within what is ahead.
  void begin_departure_ahead(InodeNumber inode, Why why, std::uint64_t from);
  void note_forgotten_ahead(InodeNumber inode);
  // From where on they may go; none if not.
  std::optional<std::uint64_t> departed_ahead(InodeNumber inode, Duration after);
  void end_departure_ahead(InodeNumber inode);
  // The same of what lies beside. The first of those that leave; UINT64_MAX: none does.
  std::uint64_t begin_departure_beside(InodeNumber inode);
  void note_forgotten_beside(InodeNumber inode);
  BlockRuns departed_beside(InodeNumber inode, Duration after);

  // Behind what a mapping should end that begins before it.
  std::uint64_t end_to_hand_over(InodeNumber inode);
  // The caller is given a mapping of these, under the inode's lock.
  void note_handed_over(InodeNumber inode, std::uint64_t first, std::uint64_t end);

  // How long nobody asked, and then how long transfers may take; pages that were written without a word have
  // longer, to come to the device.
  static constexpr std::chrono::seconds kIdle{10}, kTransfer{30}, kPages{60};

 private:
  struct Departure {
    enum class Step { kNone, kBegun, kForgotten };
    Step step = Step::kNone;
    Why why = Why::kIdle;
    std::uint64_t from = 0;
    TimePoint since{};  // of kForgotten
  };
  struct File {
    Ahead ahead;
    Departure departure;
    BlockRuns beside, leaving;
    TimePoint beside_since{};
    std::optional<TimePoint> leaving_forgotten;
    Written written = Written::kByPages;
    TimePoint used{};
    [[nodiscard]] std::uint64_t blocks_beside() const { return beside.count() + leaving.count(); }
    [[nodiscard]] bool is_empty() const { return ahead.is_empty() && blocks_beside() == 0; }
    // Of what lies beside.
    void settle(std::uint64_t first, std::uint64_t end) {
      if (first >= end) return;
      beside.remove(first, end - first);
      leaving.remove(first, end - first);
    }
  };
  struct Files {
    std::unordered_map<InodeNumber, File> known;
    std::uint64_t blocks_ahead = 0, blocks_beside = 0;
  };
  // Of a file that may be none: nothing happens then.
  template <class Change>
  void change(InodeNumber inode, Change change);
  // Of one that may have to be made.
  template <class Change>
  void add(InodeNumber inode, Change change);
  template <class Change>
  static void counted(Files& files, File& file, Change change);
  static void age_ahead(InodeNumber inode, const File& file, TimePoint now, Due& due);
  static void age_beside(InodeNumber inode, const File& file, TimePoint now, Due& due);
  static void add_beside(File& file, std::uint64_t first, std::uint64_t count, TimePoint now);

  const Clock clock_;
  Guarded<Files, LockRank::kPreallocatedBlocks> files_;
};

}  // namespace fuse4fs::ext4
