// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/timeline.h"

#include <fmt/format.h>

#include <algorithm>

namespace fuse4fs::oracle {
namespace {

Timeline::Nanoseconds now(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return Timeline::Nanoseconds{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

void Timeline::begins(int image) {
  windows_[static_cast<std::size_t>(image)].push_back({now(CLOCK_REALTIME_COARSE), 0});
}
void Timeline::ends(int image) { windows_[static_cast<std::size_t>(image)].back().end = now(CLOCK_REALTIME); }

bool Timeline::match(Nanoseconds first, Nanoseconds second, Nanoseconds granularity) const {
  if (first == second) return true;
  const auto early = granularity - 1;
  const auto& [mine, other] = windows_;
  // The steps that may have left `first`: windows follow each other in time.
  const auto from =
      std::ranges::lower_bound(mine, first, {}, [](const Window& window) { return window.end; });
  const auto to = std::ranges::upper_bound(mine, first + early, {}, &Window::begin);
  if (from == mine.end() || from >= to) return false;
  const Window& earliest = other[static_cast<std::size_t>(from - mine.begin())];
  const Window& latest = other[static_cast<std::size_t>(to - mine.begin()) - 1];
  return second >= earliest.begin - early && second <= latest.end;
}

std::string Timeline::place_of(int image, Nanoseconds time) const {
  const auto& windows = windows_[static_cast<std::size_t>(image)];
  const auto begun = std::ranges::upper_bound(windows, time, {}, &Window::begin) - windows.begin();
  const auto ended =
      std::ranges::lower_bound(windows, time, {}, [](const Window& window) { return window.end; }) -
      windows.begin();
  return fmt::format("{} begun, {} ended", begun, ended);
}

}  // namespace fuse4fs::oracle
