// SPDX-License-Identifier: GPL-2.0-or-later
// Judges whether the server still serves, so that systemd hears of it (WatchdogSec=) only while it does: a
// server that does not answer can stall sync(2) of the whole machine, and must not live on.
//
// Without work there is nothing to stall. A member in work is excused while it gets on, by steps of its own
// or a next turn. Where it does not it may be waiting for another: it is excused while anybody gets on, for
// at most five limits. Where nobody gets on, for one. Slow is not hung: each transfer of the device that ends
// is a step.
//
// The main thread comes back to its work by itself every few seconds. So its turns excuse nobody, but its
// steps do, and a turn of it may take five limits, however many steps it makes.
//
// One thread. The clock is the caller's. Times during which nobody looked (the process was stopped, the
// machine asleep) do not count.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "base/activity.h"

namespace fuse4fs::service {

// WATCHDOG_USEC and WATCHDOG_PID of the environment, as sd_watchdog_enabled(3) reads them: how long systemd
// waits for a sign of life. Empty if it does not, or not for the process `own`; and for what is no such
// number.
std::optional<std::chrono::microseconds> watchdog_limit(const char* microseconds, const char* pid, long own);

class Watchdog {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = TimePoint::duration;
  static constexpr int kLimitsBehindOthers = 5;

  // `activity` outlives the watchdog. `main_member` is the main thread's row.
  Watchdog(const Activity& activity, std::size_t main_member, std::chrono::microseconds limit);

  // How often to look.
  [[nodiscard]] std::chrono::microseconds interval() const { return interval_; }
  [[nodiscard]] std::chrono::microseconds limit() const { return limit_; }
  // Whether a sign of life is due.
  bool look(TimePoint now);

 private:
  struct Watched {
    Activity::Seen seen;
    Duration behind_others{};  // in work without getting on itself
    Duration stalled{};        // the same, and nobody else got on either
  };
  bool judge(Watched& member, const Activity::Seen& now, std::size_t index, bool anybody,
             Duration elapsed) const;

  const Activity& activity_;
  const std::size_t main_member_;
  const std::chrono::microseconds limit_;
  const std::chrono::microseconds interval_;
  std::optional<TimePoint> last_look_;
  std::vector<Watched> members_;
};

}  // namespace fuse4fs::service
