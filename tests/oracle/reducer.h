// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a failing list of steps short: takes away what the failure does not need.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "tests/oracle/step.h"

namespace fuse4fs::oracle {

// Whether these steps still fail in the same way.
using StillFails = std::function<bool(const std::vector<Step>&)>;

// Delta debugging: halves first, then ever smaller pieces down to single steps. Ends early when the time is
// up.
std::vector<Step> reduce(std::vector<Step> steps, const StillFails& still_fails, std::chrono::seconds limit);

}  // namespace fuse4fs::oracle
