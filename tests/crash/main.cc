// SPDX-License-Identifier: GPL-2.0-or-later
// One or more cuts, from the command line: see docs/journal.md.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "tests/crash/cut.h"
#include "tests/oracle/process.h"
#include "tests/oracle/volumes.h"

namespace {

namespace crash = fuse4fs::crash;
namespace oracle = fuse4fs::oracle;

constexpr int kSkipped = 77;

std::string_view word_of(crash::Verdict verdict) {
  switch (verdict) {
    case crash::Verdict::kSame:
      return "same";
    case crash::Verdict::kKernelFailed:
      return "kernel-failed";
    case crash::Verdict::kWrong:
      break;
  }
  return "WRONG";
}

int run(const std::vector<std::string>& names, std::uint64_t seed, std::uint64_t most,
        const std::string& keep) {
  if (::geteuid() != 0) {
    fmt::print("SKIPPED: mounts need root\n");
    return kSkipped;
  }
  oracle::enter_private_namespace();
  bool good = true;
  for (const std::string& name : names) {
    const crash::Kind* const kind = crash::find_kind(name);
    if (kind == nullptr) {
      fmt::print(stderr, "{}: no such kind\n", name);
      return 2;
    }
    std::mt19937_64 random(seed);
    const std::uint64_t operations = 20 + random() % most;
    const oracle::Scratch scratch(oracle::usual_scratch());
    const auto outcome = crash::cut_and_compare(*kind, seed, operations, scratch.path());
    fmt::print("{} {} {}: {}{}\n", name, seed, word_of(outcome.verdict), outcome.replayed,
               outcome.words.empty() ? "" : "\n" + outcome.words);
    std::fflush(stdout);
    if (outcome.verdict != crash::Verdict::kWrong) continue;
    good = false;
    if (!keep.empty()) {
      const auto place = std::filesystem::path(keep) / fmt::format("{}-{}", name, seed);
      std::filesystem::create_directories(place);
      for (const auto& file : std::filesystem::directory_iterator(scratch.path()))
        if (file.is_regular_file()) oracle::copy_image(file.path(), place / file.path().filename());
      fmt::print("images: {}\n", place.string());
    }
  }
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Cuts volumes under the kernel's ext4, and compares its recovery with ours.");
  std::vector<std::string> names;
  std::uint64_t seed = 1;
  std::uint64_t operations = 1500;
  std::string keep;
  bool list = false;
  app.add_option("kinds", names, "kinds of volumes");
  app.add_option("--seed", seed, "what is done");
  app.add_option("--operations", operations, "the most of them before the cut");
  app.add_option("--keep", keep, "where the images of what went wrong stay");
  app.add_flag("--kinds", list, "lists the kinds");
  CLI11_PARSE(app, argc, argv);
  if (list) {
    for (const auto& kind : crash::kinds()) fmt::print("{:20} {}\n", kind.name, kind.about);
    return 0;
  }
  try {
    return run(names, seed, operations, keep);
  } catch (const std::exception& trouble) {
    fmt::print(stderr, "{}\n", trouble.what());
    return 3;
  }
}
