// SPDX-License-Identifier: GPL-2.0-or-later
// When blocks were last freed in each block group, and which groups the device has been told of since.
//
// A clock of its own counts the frees. Locking: Volume::library().
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuse4fs::ext4 {

class FreedGroups {
 public:
  explicit FreedGroups(std::size_t groups) : groups_(groups) {}

  [[nodiscard]] std::uint64_t now() const { return clock_; }
  void note_freed(std::size_t group) { groups_[group].freed = ++clock_; }
  [[nodiscard]] bool freed_since(std::size_t group, std::uint64_t time) const {
    return groups_[group].freed > time;
  }

  // All its free runs of at least `minimum` blocks were discarded, and nothing was freed since.
  [[nodiscard]] bool is_trimmed(std::size_t group, std::uint64_t minimum) const {
    return groups_[group].trimmed != 0 && groups_[group].freed <= groups_[group].trimmed &&
           minimum >= last_minimum_;
  }
  void note_trimmed(std::size_t group) { groups_[group].trimmed = clock_; }
  // As ext4: one for all groups, from the last time that all went well.
  void set_last_minimum(std::uint64_t minimum) { last_minimum_ = minimum; }

 private:
  struct Group {
    std::uint64_t freed = 0, trimmed = 0;
  };
  std::vector<Group> groups_;
  std::uint64_t clock_ = 1;
  std::uint64_t last_minimum_ = 0;
};

}  // namespace fuse4fs::ext4
