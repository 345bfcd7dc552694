// SPDX-License-Identifier: GPL-2.0-or-later
// images [--first N] [--count N] [--jobs N]: mutated images, by number, each mounted and used in memory by
// the engine alone (judge.h). Ends with 1 where a promise was broken, or the engine crashed or hung, and
// names the image. images --tell N: that one, with what the engine tells; --write N FILE: that image, as a
// file; --program N FILE: as an input of fuzz_image. With --seeds the numbers are those of its seeds.
#include <fmt/format.h>
#include <fmt/os.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/hostile/images/damage.h"

namespace {

using namespace fuse4fs::hostile;

// What a process of its own has come to; shared with the one that started it.
struct Progress {
  std::atomic<std::uint64_t> at{0};
  std::atomic<std::uint64_t> refused{0}, read_only{0}, read_write{0}, files{0};
};

class Told final : public fuse4fs::ext4::Events {
 public:
  void corruption(std::string_view words, const fuse4fs::ext4::EventSubject&) override {
    fmt::print("{}\n", words);
  }
  void device_error(std::string_view words, const fuse4fs::ext4::EventSubject&) override {
    fmt::print("{}\n", words);
  }
  void notice(fuse4fs::ext4::Notice, std::string_view words) override { fmt::print("{}\n", words); }
};

// Where the images come from: the seeds of fuzz_image, or numbers.
class Programs {
 public:
  explicit Programs(std::vector<DamageSeed> seeds) : seeds_(std::move(seeds)) {}
  [[nodiscard]] std::vector<std::byte> at(std::uint64_t number) const {
    return seeds_.empty() ? damage_of(number) : seeds_.at(number).program;
  }
  [[nodiscard]] std::string name_of(std::uint64_t number) const {
    return fmt::format("image {} ({})", number,
                       seeds_.empty() ? image_of(damage_of(number)).name : seeds_.at(number).name);
  }
  [[nodiscard]] std::size_t seeds() const { return seeds_.size(); }

 private:
  std::vector<DamageSeed> seeds_;
};

constexpr unsigned kLongest = 60;  // seconds, of one image

// Every `step`th.
[[noreturn]] void run(const Programs& programs, Progress& progress, std::uint64_t end, std::uint64_t step) {
  while (progress.at < end) {
    ::alarm(kLongest);
    const Verdict verdict = try_image(programs.at(progress.at));
    switch (verdict.mounted) {
      case Verdict::Mounted::kRefused:
        ++progress.refused;
        break;
      case Verdict::Mounted::kReadOnly:
        ++progress.read_only;
        break;
      case Verdict::Mounted::kReadWrite:
        ++progress.read_write;
    }
    progress.files += static_cast<std::uint64_t>(verdict.files_read);
    progress.at += step;
  }
  ::_exit(0);
}

pid_t start(const Programs& programs, Progress& progress, std::uint64_t end, std::uint64_t step) {
  const pid_t child = ::fork();
  if (child == 0) run(programs, progress, end, step);
  return child;
}

void write(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): where memory or the command line is wrong, it may end so
int main(int count, char** words) {
  CLI::App app("Mutated images against the engine");
  std::uint64_t first = 0;
  std::uint64_t images = 2876;
  unsigned jobs = 1;
  std::pair<std::uint64_t, std::string> written;
  std::pair<std::uint64_t, std::string> program;
  app.add_option("--first", first, "number of the first image");
  app.add_option("--count", images, "how many");
  app.add_option("--jobs", jobs, "processes at a time")->check(CLI::Range(1, 64));
  std::uint64_t told_of = 0;
  const auto* const tell_one =
      app.add_option("--tell", told_of, "only try that image, and say what the engine says");
  const auto* const write_one = app.add_option("--write", written, "NUMBER FILE: only write that image");
  const auto* const write_program =
      app.add_option("--program", program, "NUMBER FILE: only write its program");
  bool from_seeds = false;
  app.add_flag("--seeds", from_seeds, "the seeds of fuzz_image instead, all of them");
  CLI11_PARSE(app, count, words);
  const Programs programs(from_seeds ? damage_seeds() : std::vector<DamageSeed>());
  if (programs.seeds() != 0) images = programs.seeds() - first;
  if (write_one->count() != 0) write(written.second, damaged_image(programs.at(written.first)));
  if (write_program->count() != 0) write(program.second, programs.at(program.first));
  if (tell_one->count() != 0) {
    Told told;
    const Verdict verdict = judge_image(damaged_image(programs.at(told_of)), told);
    fmt::print("{}: {} new files read back{}{}\n", programs.name_of(told_of), verdict.files_read,
               verdict.words.empty() ? "" : "; ", verdict.words);
  }
  if (tell_one->count() + write_one->count() + write_program->count() != 0) return 0;

  // Before the processes part.
  for (std::size_t i = 0; i < prepared_images(); ++i) (void)prepared_image(i);
  auto* const memory =
      ::mmap(nullptr, jobs * sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 2;
  auto* const progress = static_cast<Progress*>(memory);
  std::map<pid_t, unsigned> running;
  for (unsigned job = 0; job < jobs; ++job) {
    new (&progress[job]) Progress;
    progress[job].at = first + job;
    running[start(programs, progress[job], first + images, jobs)] = job;
  }
  unsigned found = 0;
  while (!running.empty()) {
    int status = 0;
    const pid_t ended = ::wait(&status);
    const auto job = running.extract(ended);
    if (job.empty()) continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    Progress& its = progress[job.mapped()];
    ++found;
    fmt::print("{}: {}\n", programs.name_of(its.at),
               !WIFSIGNALED(status)          ? fmt::format("ended with {}", WEXITSTATUS(status))
               : WTERMSIG(status) == SIGALRM ? fmt::format("no end within {} s", kLongest)
                                             : fmt::format("ended by signal {}", WTERMSIG(status)));
    // From the next one on.
    its.at += jobs;
    running[start(programs, its, first + images, jobs)] = job.mapped();
  }
  Progress sum;
  for (unsigned job = 0; job < jobs; ++job) {
    sum.refused += progress[job].refused;
    sum.read_only += progress[job].read_only;
    sum.read_write += progress[job].read_write;
    sum.files += progress[job].files;
  }
  fmt::print(
      "{} images from {} on: {} written to, {} only read, {} refused; {} new files read back; {} findings\n",
      images, first, sum.read_write.load(), sum.read_only.load(), sum.refused.load(), sum.files.load(),
      found);
  // Else this tests nothing.
  if (images >= 100 && sum.files < images / 2) fmt::print("too few of them could be written to\n");
  return found == 0 && (images < 100 || sum.files >= images / 2) ? 0 : 1;
}
