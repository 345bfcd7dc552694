// SPDX-License-Identifier: GPL-2.0-or-later
// When blocks were last freed in each block group, and which groups the device has been told of since.
//
// A clock of its own counts the frees; one is noted before its blocks can be found free. Locking: any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuse4fs::ext4 {

class FreedGroups {
 public:
  explicit FreedGroups(std::size_t groups) : groups_(groups) {}

  [[nodiscard]] std::uint64_t now() const { return clock_; }
  void note_freed(std::size_t group) {
    const std::uint64_t time = ++clock_;
    auto& freed = groups_[group].freed;
    std::uint64_t before = freed;
    while (before < time && !freed.compare_exchange_weak(before, time)) {
    }
  }
  [[nodiscard]] bool freed_since(std::size_t group, std::uint64_t time) const {
    return groups_[group].freed > time;
  }

  // All its free runs of at least `minimum` blocks were discarded, and nothing was freed since.
  [[nodiscard]] bool is_trimmed(std::size_t group, std::uint64_t minimum) const {
    const std::uint64_t trimmed = groups_[group].trimmed;
    return trimmed != 0 && groups_[group].freed <= trimmed && minimum >= last_minimum_;
  }
  // What was free at that time was discarded.
  void note_trimmed(std::size_t group, std::uint64_t time) { groups_[group].trimmed = time; }
  // As ext4: one for all groups, from the last time that all went well.
  void set_last_minimum(std::uint64_t minimum) { last_minimum_ = minimum; }

 private:
  struct Group {
    std::atomic<std::uint64_t> freed{0}, trimmed{0};
  };
  std::vector<Group> groups_;
  std::atomic<std::uint64_t> clock_{1};
  std::atomic<std::uint64_t> last_minimum_{0};
};

}  // namespace fuse4fs::ext4
