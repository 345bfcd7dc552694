// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/memory_pressure.h"

#include <algorithm>
#include <utility>

namespace fuse4fs::service {

MemoryPressure::MemoryPressure(std::vector<UniqueFd> files) : files_(std::move(files)) {
  if (files_.size() > kMost) files_.resize(kMost);
}

MemoryPressure::Events MemoryPressure::events() const {
  Events events;
  events.fill({.fd = -1, .events = 0, .revents = 0});
  // Not POLLIN: a pressure file is always "readable".
  for (std::size_t i = 0; i < files_.size(); ++i) events[i] = {files_[i].get(), POLLPRI, 0};
  return events;
}

bool MemoryPressure::rose(std::span<const pollfd> polled) {
  bool any = false;
  for (const pollfd& event : polled) {
    if (event.fd < 0 || event.revents == 0) continue;
    const auto file = std::ranges::find(files_, event.fd, &UniqueFd::get);
    if (file == files_.end()) continue;
    if ((event.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
      files_.erase(file);
    else if ((event.revents & POLLPRI) != 0)
      any = true;
  }
  return any;
}

}  // namespace fuse4fs::service
