// SPDX-License-Identifier: GPL-2.0-or-later
// Random operations on our mount and on the kernel's ext4 at once; the first difference ends the run, is
// reduced to a short list of steps and printed as a script. Exit status: 0 no difference, 1 a difference, 2
// wrong usage.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tests/oracle/runs.h"

namespace fuse4fs::oracle {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string kind;
  std::uint64_t seed = 1;
  Amount amount;
  std::string only, without;        // classes of operations, separated by commas
  std::vector<std::string> replay;  // a kind and a file of steps, "-" for standard input
  std::string scratch = usual_scratch();
  std::string scripts = ".";
  unsigned reduce_seconds = 90;
  bool self = false, list_kinds = false;
};

Classes classes_named(const std::string& names) {
  Classes classes;
  std::istringstream all(names);
  for (std::string name; std::getline(all, name, ',');) {
    const auto known = std::ranges::find(class_names(), name, &ClassName::name);
    if (known == class_names().end()) throw std::runtime_error("no class of operations is called " + name);
    classes.insert(known->value);
  }
  return classes;
}

Classes classes_of(const Options& options) {
  Classes classes = options.only.empty() ? all_classes() : classes_named(options.only);
  for (const Class left_out : classes_named(options.without)) classes.erase(left_out);
  return classes;
}

void tell(const Setup& setup, const Fault& fault) {
  fmt::print("{}: {}\n{}\n", setup.kind->name, fault.failure.category, fault.failure.text);
  if (!fault.log.empty()) fmt::print("the server's log:\n{}\n", fault.log);
}

int run_from_seed(const Setup& setup, const Options& options, const Classes& classes) {
  fmt::print("oracle {} {} {}\n", setup.kind->name, options.seed, options.amount.steps);
  std::fflush(stdout);
  const Run run = run_seed(setup, options.seed, options.amount, classes);
  if (!run.fault) return EXIT_SUCCESS;
  fmt::print("FAILED: seed {} after {} steps, the last: {}\n", options.seed, run.steps.size(),
             run.steps.empty() ? "none" : to_text(run.steps.back()));
  tell(setup, *run.fault);
  if (options.reduce_seconds == 0 || run.steps.empty()) return EXIT_FAILURE;

  fmt::print("reducing for at most {} s ...\n", options.reduce_seconds);
  std::fflush(stdout);
  const auto steps = shorten(setup, run, std::chrono::seconds(options.reduce_seconds));
  const std::string text = script(setup, steps);
  const fs::path file =
      fs::path(options.scripts) / fmt::format("oracle-{}-{}.sh", setup.kind->name, options.seed);
  std::ofstream(file) << text;
  fs::permissions(file, fs::perms(0755));
  fmt::print("{} steps are left, also in {}:\n{}", steps.size(), file.string(), text);
  return EXIT_FAILURE;
}

int run_replay(const Setup& setup, const Options& options) {
  std::ifstream file(options.replay[1]);
  const auto steps = read_steps(options.replay[1] == "-" ? std::cin : file);
  const auto fault = replay(setup, steps, Found::kAtEnd, steps.size() < 300 ? Pace::kSlow : Pace::kFast);
  if (!fault) {
    fmt::print("{} steps: no difference\n", steps.size());
    return EXIT_SUCCESS;
  }
  tell(setup, *fault);
  return EXIT_FAILURE;
}

bool kernel_can_write(const fs::path& image, const fs::path& scratch) {
  fs::create_directories(scratch / "try");
  try {
    const Mounted tried(Server::kKernel, image, scratch / "try");
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// Makes what both images start as.
void prepare(Setup& setup, Classes& classes) {
  const Kind& kind = *setup.kind;
  setup.pristine = {setup.scratch / "pristine0", setup.scratch / "pristine1"};
  for (const fs::path& image : setup.pristine) make_image(kind, kind.arguments, image);
  if (kind.kernel_arguments.empty() || kernel_can_write(setup.pristine[1], setup.scratch)) return;
  fmt::print("this kernel cannot write such volumes: it has one with {} instead; projects are left out\n",
             kind.kernel_arguments);
  setup.places = Setup::Places::kKeep;
  classes.erase(Class::kProjects);
  make_image(kind, kind.kernel_arguments, setup.pristine[1]);
  if (setup.first == Server::kKernel) setup.pristine[0] = setup.pristine[1];
}

int run_with(const Options& options) {
  if (options.list_kinds) {
    for (const Kind& kind : kinds()) fmt::print("{:14} {:42} {}\n", kind.name, kind.arguments, kind.about);
    return EXIT_SUCCESS;
  }
  const std::string& kind = options.replay.empty() ? options.kind : options.replay[0];
  Setup setup;
  setup.kind = find_kind(kind);
  setup.first = options.self ? Server::kKernel : Server::kOurs;
  if (setup.kind == nullptr) throw std::runtime_error("no kind of image is called " + kind);
  enter_private_namespace();
  const Scratch scratch(options.scratch);
  setup.scratch = scratch.path();
  Classes classes = classes_of(options);
  prepare(setup, classes);
  setup.look.xattrs = classes.contains(Class::kXattrs) || classes.contains(Class::kAcls);
  setup.look.flags = classes.contains(Class::kFlags) || classes.contains(Class::kProjects);
  setup.look.edges = classes.contains(Class::kRanges);
  return options.replay.empty() ? run_from_seed(setup, options, classes) : run_replay(setup, options);
}

}  // namespace
}  // namespace fuse4fs::oracle

int main(int count, char** arguments) {
  using fuse4fs::oracle::Options;
  Options options;
  CLI::App app("Random operations on fuse4fs and on the kernel's ext4 at once. Needs root.");
  app.add_option("kind", options.kind, "kind of image, see --kinds");
  app.add_option("seed", options.seed, "what the run comes from");
  app.add_option("steps", options.amount.steps, "how many operations");
  app.add_flag("--kinds", options.list_kinds, "list the kinds of images");
  app.add_flag("--self", options.self, "the kernel's ext4 on both sides, to test this program");
  app.add_option("--replay", options.replay, "KIND FILE: the steps of a file, - for standard input")
      ->expected(2);
  app.add_option("--only", options.only, "only these classes of operations, separated by commas");
  app.add_option("--without", options.without, "not these classes of operations");
  app.add_option("--check-every", options.amount.check_every, "steps between two checks of everything")
      ->check(CLI::PositiveNumber);
  app.add_option("--scratch", options.scratch, "where the images lie (/dev/shm, or /tmp)");
  app.add_option("--scripts", options.scripts, "where the script of a failure goes");
  app.add_option("--reduce", options.reduce_seconds, "seconds to reduce a failure for, 0: do not");
  try {
    app.parse(count, arguments);
    return fuse4fs::oracle::run_with(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::cerr << "oracle: " << error.what() << "\n";
    return 2;
  }
}
