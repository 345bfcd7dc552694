// SPDX-License-Identifier: GPL-2.0-or-later
// Trying again for a while what another process is about to give free.
#pragma once

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/result.h"
#include "helper/interruption.h"

namespace fuse4fs::helper {

// How long something busy is waited for: an umount(8) that is just ending, or another helper at work.
inline constexpr std::chrono::milliseconds kPatience{5000};

// Calls `attempt` every 0.1 s while it answers EBUSY or EWOULDBLOCK. EINTR when the user ends the waiting.
template <class Attempt>
auto retry_while_busy(Attempt attempt, std::chrono::milliseconds patience) -> decltype(attempt()) {
  constexpr std::chrono::milliseconds kPause{100};
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    auto result = attempt();
    if (result || (result.error() != Errno(EBUSY) && result.error() != Errno(EWOULDBLOCK))) return result;
    if (Interruption::requested()) return fail(EINTR);
    if (std::chrono::steady_clock::now() >= end) return result;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace fuse4fs::helper
