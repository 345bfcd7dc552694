// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the table of attempts (attempt.h) and keeps what was seen.
#pragma once

#include <string>
#include <vector>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {

enum class Mode { kStandalone, kService };
// kOff: the rogue was built without the server's own filter, and only what the filter killed is tried.
enum class Filter { kOn, kOff };

struct RunnerOptions {
  std::string helper;  // with the rogue where it looks for the server, or with a service that starts it
  Mode mode = Mode::kStandalone;
  Filter filter = Filter::kOn;
  std::string only;  // one attempt by name; empty: all
};

struct Seen {
  const Attempt* attempt = nullptr;
  std::string result;   // for people, without a tab
  std::string failure;  // empty: as the table wants it
};

// Needs root. Empty if it could not begin.
std::vector<Seen> run_all(const RunnerOptions& options);

}  // namespace fuse4fs::rogue
