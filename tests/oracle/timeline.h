// SPDX-License-Identifier: GPL-2.0-or-later
// When each step ran on each of the two images, to judge times that nobody set by hand.
//
// Two sides do a step one after the other, so "now" is never the same. Two times match if they are equal, or
// if both lie where the same step (or one within the same tick of the kernel's clock) ran on their own image.
#pragma once

#include <time.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace fuse4fs::oracle {

class Timeline {
 public:
  using Nanoseconds = __int128;  // since 1970; ext4 goes to the year 2446, 64 bits do not

  // Image 0 or 1. Between them the step runs there. Each step is told of both images, in the same order.
  void begins(int image);
  void ends(int image);

  // Times of image 0 and image 1. `granularity`: of the volume, 1 or 10^9.
  [[nodiscard]] bool match(Nanoseconds first, Nanoseconds second, Nanoseconds granularity) const;
  // For people: how many steps had begun on that image, and ended, when it was that time.
  [[nodiscard]] std::string place_of(int image, Nanoseconds time) const;

 private:
  // The kernel stamps with a clock that moves once a tick, a server may take the fine one: from the coarse
  // time at the beginning to the fine time at the end.
  struct Window {
    Nanoseconds begin, end;
  };
  std::array<std::vector<Window>, 2> windows_;
};

}  // namespace fuse4fs::oracle
