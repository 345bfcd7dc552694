// SPDX-License-Identifier: GPL-2.0-or-later
// rogue_runner: runs the attempts, or makes the table of docs/security.md from what was seen.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <fstream>

#include "tests/hostile/rogue/runner.h"
#include "tests/hostile/rogue/table.h"

namespace fuse4fs::rogue {
namespace {

int attempt_all(const RunnerOptions& options, const std::string& results) {
  const auto seen = run_all(options);
  int failures = 0;
  std::ofstream file;
  if (!results.empty()) file.open(results, std::ios::trunc);
  for (const Seen& one : seen) {
    if (!one.failure.empty()) {
      ++failures;
      fmt::print("FAILED {}: {}: seen \"{}\": {}\n", one.attempt->name, one.attempt->what, one.result,
                 one.failure);
    }
    if (file.is_open()) file << one.attempt->name << '\t' << one.result << '\n';
    if (!options.only.empty()) fmt::print("{}: {}\n", one.attempt->name, one.result);
  }
  fmt::print("{} attempts, {} not as they should be\n", seen.size(), failures);
  // A run without an attempt has shown nothing.
  return failures == 0 && !seen.empty() && (results.empty() || file.good()) ? 0 : 1;
}

}  // namespace
}  // namespace fuse4fs::rogue

int main(int argc, char** argv) {
  namespace rogue = fuse4fs::rogue;
  CLI::App app("Attacks mount.fuse4fs and the kernel from the server's place.", "rogue_runner");
  rogue::RunnerOptions options;
  std::string results, merge, column, seen, document;
  bool service = false, without_filter = false;
  app.add_option("--helper", options.helper, "the mount helper, which starts the rogue as its server");
  app.add_flag("--service", service, "through systemd's socket instead of standalone");
  app.add_flag("--without-filter", without_filter,
               "the rogue was built without the filter: see what else stops it");
  app.add_option("--only", options.only, "one attempt");
  app.add_option("--results", results, "write what was seen to this file");
  app.add_option("--seen", seen, "the file of what was seen, tests/hostile/rogue/seen.tsv");
  app.add_option("--merge", merge, "put this file of results into --seen, as its --column");
  app.add_option("--column", column, "standalone, standalone-behind, service or service-behind");
  app.add_option("--document", document, "docs/security.md: write the table of --seen into it");
  bool check = false;
  app.add_flag("--check", check,
               "change nothing: fail if --document is not in step with --seen and the attempts");
  CLI11_PARSE(app, argc, argv);
  if (!merge.empty()) return rogue::merge_results(seen, merge, column);
  if (!document.empty())
    return check ? rogue::check_document(seen, document) : rogue::write_document(seen, document);
  options.mode = service ? rogue::Mode::kService : rogue::Mode::kStandalone;
  options.filter = without_filter ? rogue::Filter::kOff : rogue::Filter::kOn;
  return rogue::attempt_all(options, results);
}
