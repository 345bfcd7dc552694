// SPDX-License-Identifier: GPL-2.0-or-later
// Whole runs: from a seed, or of a list of steps; and what to do with one that fails.
#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "tests/oracle/generator.h"
#include "tests/oracle/session.h"

namespace fuse4fs::oracle {

// Where a failure was found, and so what a replay has to do to find it again.
enum class Found { kAtStep, kAtEnd };

struct Fault {
  Failure failure;
  Found found = Found::kAtStep;
  std::string log;  // of our server
};

struct Run {
  std::vector<Step> steps;  // as far as they were done
  std::optional<Fault> fault;
};

struct Amount {
  unsigned steps = 500;
  unsigned check_every = 100;  // steps from one whole check to the next
};

Run run_seed(const Setup& setup, std::uint64_t seed, const Amount& amount, const Classes& classes);

// kSlow: a pause before each step, longer than the clock's tick, so that times tell steps apart.
enum class Pace { kFast, kSlow };
std::optional<Fault> replay(const Setup& setup, const std::vector<Step>& steps, Found until, Pace pace);

// A shorter list that fails in the same way.
std::vector<Step> shorten(const Setup& setup, const Run& run, std::chrono::seconds limit);
// A script that replays the steps.
std::string script(const Setup& setup, const std::vector<Step>& steps);
// Lines of steps; empty lines and comments are skipped. Throws std::runtime_error for a line that is no step.
std::vector<Step> read_steps(std::istream& lines);

}  // namespace fuse4fs::oracle
