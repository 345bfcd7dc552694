// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/runs.h"

#include <fmt/format.h>

#include <istream>
#include <stdexcept>
#include <thread>

#include "tests/oracle/reducer.h"

namespace fuse4fs::oracle {
namespace {

Fault fault_of(const Session& session, Failure failure, Found found) {
  return {.failure = std::move(failure), .found = found, .log = session.log()};
}

// A mount that fails, an image that cannot be made.
Fault fault_of(const std::exception& error) {
  return {.failure = {.category = "exception", .text = error.what()}, .found = Found::kAtEnd, .log = {}};
}

}  // namespace

Run run_seed(const Setup& setup, std::uint64_t seed, const Amount& amount, const Classes& classes) {
  Run run;
  try {
    Session session(setup);
    Generator generator(seed, classes);
    // Everybody may make names in the root.
    run.steps.push_back({.operation = Operation::kChmod, .path = ".", .mode = 0777});
    if (auto failure = session.run(run.steps.back())) {
      run.fault = fault_of(session, *failure, Found::kAtStep);
      return run;
    }
    while (run.steps.size() < amount.steps) {
      const bool check = run.steps.size() % amount.check_every == 0;
      run.steps.push_back(check ? Step{.operation = Operation::kCheck}
                                : generator.next(session.free_percent()));
      if (auto failure = session.run(run.steps.back())) {
        run.fault = fault_of(session, *failure, Found::kAtStep);
        return run;
      }
      if (check) {
        generator.known().learn(session.tree());
      } else {
        generator.known().follow(run.steps.back(), session.last());
      }
    }
    if (auto failure = session.finish()) run.fault = fault_of(session, *failure, Found::kAtEnd);
  } catch (const std::exception& error) {
    run.fault = fault_of(error);
  }
  return run;
}

std::optional<Fault> replay(const Setup& setup, const std::vector<Step>& steps, Found until, Pace pace) {
  try {
    Session session(setup);
    for (const Step& step : steps) {
      if (pace == Pace::kSlow) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (auto failure = session.run(step)) return fault_of(session, *failure, Found::kAtStep);
    }
    if (until == Found::kAtStep) return std::nullopt;
    if (auto failure = session.finish()) return fault_of(session, *failure, Found::kAtEnd);
  } catch (const std::exception& error) {
    return fault_of(error);
  }
  return std::nullopt;
}

std::vector<Step> shorten(const Setup& setup, const Run& run, std::chrono::seconds limit) {
  const std::string& category = run.fault->failure.category;
  const auto still_fails = [&](const std::vector<Step>& steps) {
    // Few steps follow each other within one tick of the clock.
    const bool about_time = category.find("time") != std::string::npos;
    const Pace pace = about_time && steps.size() < 40 ? Pace::kSlow : Pace::kFast;
    const auto fault = replay(setup, steps, run.fault->found, pace);
    return fault && fault->failure.category == category;
  };
  return reduce(run.steps, still_fails, limit);
}

std::string script(const Setup& setup, const std::vector<Step>& steps) {
  std::string text = fmt::format(
      "#!/bin/sh\n# Run as root from the top of the sources, after `cmake --build --preset release`.\n"
      "build/${{PRESET:-release}}/tests/oracle/oracle --replay {} - <<'END'\n",
      setup.kind->name);
  for (const Step& step : steps) text += to_text(step) + "\n";
  return text + "END\n";
}

std::vector<Step> read_steps(std::istream& lines) {
  std::vector<Step> steps;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto step = parse_step(line);
    if (!step) throw std::runtime_error("not a step: " + line);
    steps.push_back(*step);
  }
  return steps;
}

}  // namespace fuse4fs::oracle
