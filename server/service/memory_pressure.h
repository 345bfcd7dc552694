// SPDX-License-Identifier: GPL-2.0-or-later
// What tells the server that processes wait for memory: the helper's pressure files, which can only be
// polled.
//
// One thread. Its descriptors are polled together with others: events() and rose() say how.
#pragma once

#include <poll.h>

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/unique_fd.h"

namespace fuse4fs::service {

class MemoryPressure {
 public:
  // The machine's, and the server's own control group's.
  static constexpr std::size_t kMost = 2;
  using Events = std::array<pollfd, kMost>;

  MemoryPressure() = default;
  // kMost of them at most count.
  explicit MemoryPressure(std::vector<UniqueFd> files);

  [[nodiscard]] const std::vector<UniqueFd>& files() const { return files_; }
  // For poll(2); entries with -1 where there is nothing (any more).
  [[nodiscard]] Events events() const;
  // What poll(2) made of events(): whether one of them tells of pressure. One that has failed (its control
  // group is gone) is closed, or poll(2) would not wait any more.
  bool rose(std::span<const pollfd> polled);

 private:
  std::vector<UniqueFd> files_;
};

}  // namespace fuse4fs::service
