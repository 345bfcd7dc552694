// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/reducer.h"

#include <algorithm>

namespace fuse4fs::oracle {

std::vector<Step> reduce(std::vector<Step> steps, const StillFails& still_fails, std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  const auto in_time = [&] { return std::chrono::steady_clock::now() < deadline; };
  std::size_t piece = std::max<std::size_t>(steps.size() / 2, 1);
  while (in_time()) {
    bool shorter = false;
    // From the end: the last step is the one that failed, what came just before matters least often.
    for (std::size_t end = steps.size(); end > 0 && in_time();) {
      const std::size_t begin = end > piece ? end - piece : 0;
      std::vector<Step> fewer(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(begin));
      fewer.insert(fewer.end(), steps.begin() + static_cast<std::ptrdiff_t>(end), steps.end());
      if (!fewer.empty() && still_fails(fewer)) {
        steps = std::move(fewer);
        shorter = true;
      }
      end = std::min(begin, steps.size());
    }
    if (piece == 1 && !shorter) break;
    piece = std::max<std::size_t>(piece / 2, 1);
  }
  return steps;
}

}  // namespace fuse4fs::oracle
