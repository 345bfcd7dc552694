// SPDX-License-Identifier: GPL-2.0-or-later
// Says how far a recovery is, where it takes long enough that somebody wonders.
//
// Nothing within the first second, then a line at most every few. One thread.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class RecoveryProgress {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  static constexpr auto kPatience = std::chrono::seconds(1);
  static constexpr auto kInterval = std::chrono::seconds(5);

  // An empty clock is the machine's.
  RecoveryProgress(Clock clock, Events& events)
      : clock_(clock ? std::move(clock) : Clock([] { return std::chrono::steady_clock::now(); })),
        events_(events),
        next_(clock_() + kPatience) {}

  // `doing` is "reading the journal"; `all` 0: not known.
  void at(std::string_view doing, std::uint64_t done, std::uint64_t all) {
    const auto now = clock_();
    if (now < next_) return;
    next_ = now + kInterval;
    if (all == 0)
      events_.notice(fmt::format("{}: {} so far", doing, done));
    else
      events_.notice(fmt::format("{}: {}%", doing, std::min(done, all) * 100 / all));
  }

 private:
  const Clock clock_;
  Events& events_;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace fuse4fs::ext4
