// SPDX-License-Identifier: GPL-2.0-or-later
// What threads are at, and whether they get on with it: what a watchdog looks at.
//
// A thread that is a member writes to a row of its own and nobody else does: plain relaxed stores, no locked
// instruction, on the path of each request. Any thread may look. The numbers of one row are not read as one,
// and need not be: what matters is whether they change.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuse4fs {

class Activity {
  static constexpr std::size_t kCacheLine = 64;
  struct alignas(kCacheLine) Row {
    std::atomic<std::uint64_t> turns{0};  // odd while the member is in work
    std::atomic<std::uint64_t> steps{0};
  };

 public:
  explicit Activity(std::size_t members) : rows_(members) {}

  struct Seen {
    std::uint64_t turns = 0;
    std::uint64_t steps = 0;
    [[nodiscard]] bool in_work() const { return (turns & 1) != 0; }
    friend bool operator==(const Seen&, const Seen&) = default;
  };
  [[nodiscard]] std::size_t size() const { return rows_.size(); }
  [[nodiscard]] Seen of(std::size_t member) const {
    const Row& row = rows_[member];
    return {row.turns.load(std::memory_order_relaxed), row.steps.load(std::memory_order_relaxed)};
  }

  // While it lives the calling thread is this member. One thread a member at a time.
  class Member {
   public:
    Member(Activity& activity, std::size_t member) { own_row = &activity.rows_[member]; }
    ~Member() { own_row = nullptr; }
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
  };

  // One piece of work of the calling thread, a request for instance. Nothing in threads that are no members,
  // and nothing inside of another one.
  class Turn {
   public:
    Turn() : row_(own_row) {
      if (row_ != nullptr && (row_->turns.load(std::memory_order_relaxed) & 1) != 0) row_ = nullptr;
      if (row_ != nullptr) increase(row_->turns);
    }
    ~Turn() {
      if (row_ != nullptr) increase(row_->turns);
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Row* row_;
  };

  // The calling thread has got on with its work: a transfer of the device has ended.
  static void step() {
    if (own_row != nullptr) increase(own_row->steps);
  }

 private:
  static void increase(std::atomic<std::uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  static constinit inline thread_local Row* own_row = nullptr;
  std::vector<Row> rows_;
};

}  // namespace fuse4fs
