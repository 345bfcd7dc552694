// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/reservation_windows.h"

#include <algorithm>
#include <iterator>

namespace fuse4fs::ext4 {

void ReservationWindows::State::erase(InodeNumber owner) {
  const auto found = owners.find(owner);
  if (found == owners.end()) return;
  windows.erase(found->second);
  owners.erase(found);
}

void ReservationWindows::State::erase_longest_unused() {
  const auto oldest =
      std::ranges::min_element(windows, {}, [](const auto& window) { return window.second.last_used; });
  if (oldest != windows.end()) erase(oldest->second.owner);
}

std::map<std::uint64_t, ReservationWindows::Window>::iterator ReservationWindows::State::at_or_behind(
    std::uint64_t block) {
  const auto next = windows.upper_bound(block);
  if (next != windows.begin() && std::prev(next)->second.end > block) return std::prev(next);
  return next;
}

BlockRun ReservationWindows::first_free(BlockRun run, InodeNumber owner) {
  // Most have nothing to look at.
  if (size() == 0 || run.count == 0) return run;
  auto state = state_.lock();
  const auto in_the_way = [&](auto window) { return window->first < run.end(); };
  auto window = state->at_or_behind(run.first);
  std::uint64_t first = run.first;
  for (; window != state->windows.end() && in_the_way(window) && first < run.end(); ++window) {
    if (window->second.owner == owner) continue;
    if (window->first > first) return {first, window->first - first};
    first = std::min(window->second.end, run.end());
  }
  return {first, run.end() - first};
}

BlockRun ReservationWindows::rest(InodeNumber owner, std::uint64_t block) {
  if (size() == 0) return {block, 0};
  auto state = state_.lock();
  const auto found = state->owners.find(owner);
  if (found == state->owners.end() || found->second > block) return {block, 0};
  const std::uint64_t end = state->windows.at(found->second).end;
  return {block, end - std::min(end, block)};
}

void ReservationWindows::take(InodeNumber owner, BlockRun run, std::uint64_t ahead) {
  auto state = state_.lock();
  std::uint64_t first = run.end();
  std::uint64_t end = run.end() + ahead;
  if (const auto found = state->owners.find(owner); found != state->owners.end()) {
    const std::uint64_t old_end = state->windows.at(found->second).end;
    if (found->second <= run.first && run.first < old_end) {
      first = std::max(found->second, run.first - std::min(run.first, kMostBefore));
      end = std::max(end, old_end);
    }
    state->erase(owner);
  }
  // What somebody took at the same time may already have a window there.
  if (const auto other = state->at_or_behind(first); other != state->windows.end())
    end = std::min(end, other->first);
  if (first < end) {
    if (state->windows.size() >= kMost) state->erase_longest_unused();
    state->windows.emplace(first, Window{.end = end, .owner = owner, .last_used = state->clock});
    state->owners.emplace(owner, first);
  }
  size_ = state->windows.size();
}

void ReservationWindows::forget(InodeNumber owner) {
  if (size() == 0) return;
  auto state = state_.lock();
  state->erase(owner);
  size_ = state->windows.size();
}

bool ReservationWindows::forget_all() {
  if (size() == 0) return false;
  auto state = state_.lock();
  const bool had_any = !state->windows.empty();
  state->windows.clear();
  state->owners.clear();
  size_ = 0;
  return had_any;
}

void ReservationWindows::age() {
  if (size() == 0) return;
  auto state = state_.lock();
  const std::uint64_t now = ++state->clock;
  for (auto window = state->windows.begin(); window != state->windows.end();) {
    if (window->second.last_used + 1 < now) {
      state->owners.erase(window->second.owner);
      window = state->windows.erase(window);
    } else {
      ++window;
    }
  }
  size_ = state->windows.size();
}

}  // namespace fuse4fs::ext4
