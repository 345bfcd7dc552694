// SPDX-License-Identifier: GPL-2.0-or-later
// A set of numbers (blocks, inodes), as runs that lie apart. Locking: its owner's.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>

namespace fuse4fs::ext4 {

class BlockRuns {
 public:
  void add(std::uint64_t first, std::uint64_t count) {
    if (count == 0) return;
    std::uint64_t end = first + count;
    auto next = runs_.upper_bound(first);
    if (next != runs_.begin() && std::prev(next)->second >= first) --next;
    while (next != runs_.end() && next->first <= end) {
      first = std::min(first, next->first);
      end = std::max(end, next->second);
      count_ -= next->second - next->first;
      next = runs_.erase(next);
    }
    runs_.emplace_hint(next, first, end);
    count_ += end - first;
  }
  void add(const BlockRuns& others) {
    for (const auto& [first, end] : others.runs_) add(first, end - first);
  }
  // What of these is in it.
  void remove(std::uint64_t first, std::uint64_t count) {
    if (count == 0) return;
    const std::uint64_t end = first + count;
    auto next = runs_.upper_bound(first);
    if (next != runs_.begin() && std::prev(next)->second > first) --next;
    while (next != runs_.end() && next->first < end) {
      const auto [run_first, run_end] = *next;
      next = runs_.erase(next);
      count_ -= std::min(run_end, end) - std::max(run_first, first);
      if (run_first < first) runs_.emplace_hint(next, run_first, first);
      if (run_end > end) next = runs_.emplace_hint(next, end, run_end);
    }
  }
  void remove(const BlockRuns& others) {
    for (const auto& [first, end] : others.runs_) remove(first, end - first);
  }
  [[nodiscard]] bool contains(std::uint64_t block) const { return behind(block) != block; }
  // The first block from here on that is not in it.
  [[nodiscard]] std::uint64_t behind(std::uint64_t block) const {
    const auto next = runs_.upper_bound(block);
    if (next == runs_.begin() || std::prev(next)->second <= block) return block;
    return std::prev(next)->second;
  }
  // The first block from here on that is in it; UINT64_MAX if none is.
  [[nodiscard]] std::uint64_t next(std::uint64_t block) const {
    if (contains(block)) return block;
    const auto found = runs_.lower_bound(block);
    return found == runs_.end() ? UINT64_MAX : found->first;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::size_t runs() const { return runs_.size(); }
  // Calls `see(first, count)` for each run, from the first on.
  template <class See>
  void for_each(const See& see) const {
    for (const auto& [first, end] : runs_) see(first, end - first);
  }
  void clear() {
    runs_.clear();
    count_ = 0;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> runs_;  // first block, and the one behind the last
  std::uint64_t count_ = 0;
};

}  // namespace fuse4fs::ext4
