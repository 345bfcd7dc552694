// SPDX-License-Identifier: GPL-2.0-or-later
// When each inode was last changed: whether a sync of it has anything to write. As ext4's i_sync_tid and
// i_datasync_tid, for inodes in memory or not.
//
// Time is counted in write-backs: all that is changed before one begins is written by it. Inodes share places
// (their numbers' remainders), so one that was not changed may seem to be; never the other way round.
//
// Locking: any thread; no lock. Changes are noted under a handle, begin_write_back() is called under a Pause:
// so a change belongs to one write-back and no other. Errors: none.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace fuse4fs::journal {

// What of an inode: fdatasync(2) does not ask for its times.
enum class Changed { kTimes, kMore };

class LastChanges {
 public:
  using WriteBack = std::uint64_t;  // its number

  void note(std::uint32_t inode, Changed what) {
    const WriteBack next = next_.load(std::memory_order_relaxed);
    Place& place = places_[inode % places_.size()];
    place.all.store(next, std::memory_order_release);
    if (what == Changed::kMore) place.more.store(next, std::memory_order_release);
  }

  // Which one it is: what is noted from now on is for the next.
  [[nodiscard]] WriteBack begin_write_back() { return next_.fetch_add(1, std::memory_order_relaxed); }
  // The device has taken all of it.
  void note_written(WriteBack done) { written_.store(done, std::memory_order_release); }

  // Whether the device has taken all changes of the inode: those of its times as well, or kMore alone.
  [[nodiscard]] bool are_written(std::uint32_t inode, Changed what) const {
    const Place& place = places_[inode % places_.size()];
    const auto& last = what == Changed::kTimes ? place.all : place.more;
    return last.load(std::memory_order_acquire) <= written_.load(std::memory_order_acquire);
  }

 private:
  struct Place {
    std::atomic<WriteBack> all{0}, more{0};
  };
  static constexpr std::size_t kPlaces = 4096;
  std::array<Place, kPlaces> places_;
  std::atomic<WriteBack> next_{1}, written_{0};
};

}  // namespace fuse4fs::journal
