// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/watchdog.h"

#include <algorithm>

#include "server/service/environment.h"

namespace fuse4fs::service {
namespace {

using std::chrono::microseconds;

constexpr int kLooksPerLimit = 4;  // one or two that get lost shall not matter
constexpr microseconds kShortestInterval = std::chrono::milliseconds(10);
constexpr microseconds kLongestLimit = std::chrono::hours(24);

}  // namespace

std::optional<microseconds> watchdog_limit(const char* microseconds_text, const char* pid, long own) {
  if (pid != nullptr && number_in(pid) != own) return std::nullopt;
  const auto value = number_in(microseconds_text);
  if (!value || *value <= 0) return std::nullopt;
  return std::min(microseconds(*value), kLongestLimit);
}

Watchdog::Watchdog(const Activity& activity, std::size_t main_member, microseconds limit)
    : activity_(activity),
      main_member_(main_member),
      limit_(limit),
      interval_(std::max(limit / kLooksPerLimit, kShortestInterval)),
      members_(activity.size()) {}

bool Watchdog::judge(Watched& member, const Activity::Seen& now, std::size_t index, bool anybody,
                     Duration elapsed) const {
  const bool next_turn = now.turns != member.seen.turns;
  const bool stepped = now.steps != member.seen.steps;
  member.seen = now;
  if (!now.in_work() || next_turn) {
    member.behind_others = member.stalled = {};
    return true;
  }
  member.behind_others = stepped && index != main_member_ ? Duration{} : member.behind_others + elapsed;
  member.stalled = anybody ? Duration{} : member.stalled + elapsed;
  return member.stalled < limit_ && member.behind_others < kLimitsBehindOthers * limit_;
}

bool Watchdog::look(TimePoint now) {
  const Duration elapsed = last_look_ ? std::min<Duration>(now - *last_look_, 2 * interval_) : Duration{};
  last_look_ = now;
  std::vector<Activity::Seen> seen;
  seen.reserve(members_.size());
  for (std::size_t i = 0; i < members_.size(); ++i) seen.push_back(activity_.of(i));
  bool anybody = false;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    // The main thread takes a turn every few seconds, with or without something to do.
    const bool turned = i != main_member_ && seen[i].turns != members_[i].seen.turns;
    anybody = anybody || turned || seen[i].steps != members_[i].seen.steps;
  }
  bool all_well = true;
  for (std::size_t i = 0; i < members_.size(); ++i)
    all_well = judge(members_[i], seen[i], i, anybody, elapsed) && all_well;
  return all_well;
}

}  // namespace fuse4fs::service
