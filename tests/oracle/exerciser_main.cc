// SPDX-License-Identifier: GPL-2.0-or-later
// Runs the exerciser on a fresh volume; e2fsck judges it, and the kernel's ext4 reads the same bytes.
// Exit status: 0 equal, 1 not, 2 wrong usage.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <stdexcept>

#include "tests/oracle/exerciser.h"

namespace fuse4fs::oracle {
namespace {

struct Options {
  std::string kind, variant;
  std::uint64_t seed = 1;
  unsigned operations = 1000;
  bool without_ranges = false, self = false;
};

Ranges ranges_of(const Options& options) {
  if (options.without_ranges) return Ranges::kNone;
  if (options.kind == "ext2" || options.kind == "ext3") return Ranges::kPunchOnly;
  return options.self ? Ranges::kAll : Ranges::kInPlace;
}

void exercise(const Options& options, Exerciser& exerciser) {
  for (unsigned done = 1; done <= options.operations; ++done) {
    exerciser.step();
    if (done % 50 == 0) exerciser.compare_whole();
  }
  exerciser.compare_whole();
  exerciser.close_file();
}

void run_with(const Options& options) {
  const Kind* kind = find_kind(options.kind);
  if (kind == nullptr) throw std::invalid_argument("no kind of image is called " + options.kind);
  constexpr std::pair<std::string_view, Variant> kVariants[] = {
      {"buffered", Variant::kBuffered}, {"mmap", Variant::kMapped}, {"mixed", Variant::kMixed}};
  const auto variant =
      std::ranges::find(kVariants, options.variant, &std::pair<std::string_view, Variant>::first);
  if (variant == std::end(kVariants)) throw std::invalid_argument("variants are buffered, mmap and mixed");

  enter_private_namespace();
  const Scratch scratch(usual_scratch());
  const auto image = scratch.path() / "image", point = scratch.path() / "mnt";
  std::filesystem::create_directory(point);
  make_image(*kind, kind->arguments, image);
  Mounted ours(options.self ? Server::kKernel : Server::kOurs, image, point);
  Exerciser exerciser(ours, {.variant = variant->second,
                             .ranges = ranges_of(options),
                             .range_unit = options.kind == "bigalloc" ? 16384U : 4096U,
                             .seed = options.seed});
  try {
    exercise(options, exerciser);
    if (const std::string wrong = ours.unmount(); !wrong.empty()) throw std::runtime_error(wrong);
    if (const std::string complaints = complaints_about(image); !complaints.empty())
      throw std::runtime_error(complaints);
    Mounted again(Server::kKernel, image, point, Writing::kForbidden);
    exerciser.move_to(again);
    exerciser.compare_whole();
    exerciser.close_file();
  } catch (const std::exception&) {
    exerciser.close_file();
    fmt::print("FAILED. The last operations, of a file that is now {} bytes long:\n",
               exerciser.model().size());
    for (const std::string& line : exerciser.log()) fmt::print("  {}\n", line);
    fmt::print("the server's log:\n{}\n", ours.log());
    throw;
  }
}

}  // namespace
}  // namespace fuse4fs::oracle

int main(int count, char** arguments) {
  fuse4fs::oracle::Options options;
  CLI::App app("Random operations on one file, against a copy in memory. Needs root.");
  app.add_option("kind", options.kind, "kind of image, see oracle --kinds")->required();
  app.add_option("variant", options.variant, "buffered, mmap or mixed (with O_DIRECT)")->required();
  app.add_option("seed", options.seed, "what the run comes from");
  app.add_option("operations", options.operations, "how many");
  app.add_flag("--without-ranges", options.without_ranges, "no fallocate");
  app.add_flag("--self", options.self, "the kernel's ext4 instead of fuse4fs, to test this program");
  try {
    app.parse(count, arguments);
    fmt::print("exerciser {} {} {} {}\n", options.kind, options.variant, options.seed, options.operations);
    std::fflush(stdout);
    fuse4fs::oracle::run_with(options);
    return EXIT_SUCCESS;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::invalid_argument& error) {
    std::cerr << "exerciser: " << error.what() << "\n";
    return 2;
  } catch (const std::exception& error) {
    std::cout << error.what() << "\n";
    return EXIT_FAILURE;
  }
}
