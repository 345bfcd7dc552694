// SPDX-License-Identifier: GPL-2.0-or-later
// The benchmark's load on names and small files: creates, stats, lists, reads, unlinks and appends, as fast
// as it can.
//
// One kind of load a run. It prints one line of JSON: the operations done (fewer than wanted if the time was
// over) and the seconds they took. Preparing (the order of names, the workers' folders) is not in the
// seconds. The first error ends it: words on standard error, exit 1. Workers share nothing but the start:
// each has a folder of its own, so that the file system is what is measured.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs {
namespace {

using Clock = std::chrono::steady_clock;

struct Load {
  std::string kind;
  std::string directory;
  std::size_t count = 1;    // names that are there, or will be
  std::size_t sample = 0;   // so many of them are looked up; 0: all
  std::size_t folders = 0;  // spread over so many; 0: in the directory itself
  std::size_t bytes = 0;    // content of each file, or of each append
  std::size_t workers = 1;
  double seconds = 1e6;  // then it stops, wherever it is
  bool sync_at_end = false;
};

// What one worker has done. The clock is asked after each operation: some 30 ns, little beside a system call.
class Progress {
 public:
  explicit Progress(Clock::time_point deadline) : deadline_(deadline) {}
  // One operation more. False when the time is over.
  bool step() {
    ++done_;
    return Clock::now() < deadline_;
  }
  [[nodiscard]] std::size_t done() const { return done_; }

 private:
  Clock::time_point deadline_;
  std::size_t done_ = 0;
};

std::unexpected<Failure> failed(std::string_view doing, const std::string& path) {
  const Errno error = Errno::last();
  return fail(error, fmt::format("{} {}: {}", doing, path, error.message()));
}

std::string folder_of(const Load& load, std::size_t number) {
  return fmt::format("{}/d{:04}", load.directory, number);
}

// The files of one folder come one after another, as those of an archive do.
std::string path_of(const Load& load, std::size_t number) {
  if (load.folders == 0) return fmt::format("{}/file-{:07}", load.directory, number);
  const std::size_t in_each = (load.count + load.folders - 1) / load.folders;
  return fmt::format("{}/file-{:07}", folder_of(load, number / in_each), number);
}

Outcome<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) return failed("mkdir", path);
  return {};
}

Outcome<void> write_all(int fd, const std::vector<char>& content, const std::string& path) {
  if (content.empty()) return {};
  const ssize_t written = ::write(fd, content.data(), content.size());
  if (written < 0) return failed("write", path);
  if (static_cast<std::size_t>(written) != content.size())
    return fail(Errno(EIO), fmt::format("write {}: {} of {} bytes", path, written, content.size()));
  return {};
}

// close(2) tells of what it could not write.
Outcome<void> close_checked(UniqueFd fd, const std::string& path) {
  if (::close(fd.release()) != 0) return failed("close", path);
  return {};
}

Outcome<void> create_one(const Load& load, std::size_t number, const std::vector<char>& content) {
  const auto path = path_of(load, number);
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd) return failed("create", path);
  RETURN_IF_ERROR(write_all(fd.get(), content, path));
  return close_checked(std::move(fd), path);
}

Outcome<void> stat_one(const Load& load, std::size_t number) {
  const auto path = path_of(load, number);
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return failed("stat", path);
  return {};
}

Outcome<void> unlink_one(const Load& load, std::size_t number) {
  const auto path = path_of(load, number);
  if (::unlink(path.c_str()) != 0) return failed("unlink", path);
  return {};
}

Outcome<void> create(const Load& load, Progress& progress) {
  const std::vector<char> content(load.bytes, 'x');
  for (std::size_t folder = 0; folder < load.folders; ++folder)
    RETURN_IF_ERROR(make_directory(folder_of(load, folder)));
  for (std::size_t number = 0; number < load.count; ++number) {
    RETURN_IF_ERROR(create_one(load, number, content));
    if (!progress.step()) break;
  }
  return {};
}

Outcome<void> stat_at_random(const Load& load, Progress& progress) {
  std::vector<std::size_t> order(load.count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937_64 random(1);  // the same order for every peer
  std::shuffle(order.begin(), order.end(), random);
  if (load.sample != 0) order.resize(std::min(order.size(), load.sample));
  for (const auto number : order) {
    RETURN_IF_ERROR(stat_one(load, number));
    if (!progress.step()) break;
  }
  return {};
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

Outcome<void> list(const Load& load, Progress& progress) {
  const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(load.directory.c_str()));
  if (!directory) return failed("opendir", load.directory);
  while (true) {
    errno = 0;
    const dirent* const entry = ::readdir(directory.get());
    if (entry == nullptr) break;
    if (entry->d_name[0] != '.' && !progress.step()) return {};
  }
  if (errno != 0) return failed("readdir", load.directory);
  if (progress.done() != load.count)
    return fail(Errno(EIO),
                fmt::format("{} has {} names, not {}", load.directory, progress.done(), load.count));
  return {};
}

Outcome<void> read_all(const Load& load, Progress& progress) {
  std::vector<char> into(load.bytes + 1);
  for (std::size_t number = 0; number < load.count; ++number) {
    const auto path = path_of(load, number);
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return failed("open", path);
    const ssize_t bytes = ::read(fd.get(), into.data(), into.size());
    if (bytes < 0) return failed("read", path);
    if (static_cast<std::size_t>(bytes) != load.bytes)
      return fail(Errno(EIO), fmt::format("read {}: {} of {} bytes", path, bytes, load.bytes));
    if (!progress.step()) break;
  }
  return {};
}

Outcome<void> unlink_all(const Load& load, Progress& progress) {
  for (std::size_t number = 0; number < load.count; ++number) {
    RETURN_IF_ERROR(unlink_one(load, number));
    if (!progress.step()) break;
  }
  return {};
}

Outcome<void> append(const Load& load, Progress& progress) {
  const std::vector<char> content(load.bytes, 'x');
  const auto path = load.directory + "/appended";
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) return failed("create", path);
  for (std::size_t number = 0; number < load.count; ++number) {
    RETURN_IF_ERROR(write_all(fd.get(), content, path));
    if (::fsync(fd.get()) != 0) return failed("fsync", path);
    if (!progress.step()) break;
  }
  return close_checked(std::move(fd), path);
}

// Creates `count` files, stats them, unlinks them: three operations a file.
Outcome<void> cycle(const Load& load, Progress& progress) {
  const std::vector<char> content(load.bytes, 'x');
  for (std::size_t number = 0; number < load.count; ++number) {
    RETURN_IF_ERROR(create_one(load, number, content));
    if (!progress.step()) return {};
  }
  for (std::size_t number = 0; number < load.count; ++number) {
    RETURN_IF_ERROR(stat_one(load, number));
    if (!progress.step()) return {};
  }
  return unlink_all(load, progress);
}

using Kind = std::function<Outcome<void>(const Load&, Progress&)>;
const std::map<std::string, Kind>& kinds() {
  static const std::map<std::string, Kind> all{
      {"create", create},     {"stat", stat_at_random}, {"list", list},  {"read", read_all},
      {"unlink", unlink_all}, {"append", append},       {"cycle", cycle}};
  return all;
}

Outcome<void> sync_file_system(const std::string& directory) {
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return failed("open", directory);
  if (::syncfs(fd.get()) != 0) return failed("syncfs", directory);
  return {};
}

struct Total {
  std::size_t operations = 0;
  double seconds = 0;
};

Outcome<Total> run(const Load& load) {
  const auto& work = kinds().at(load.kind);
  std::vector<Load> parts(load.workers, load);
  if (load.workers > 1) {
    for (std::size_t worker = 0; worker < parts.size(); ++worker) {
      parts[worker].directory = fmt::format("{}/w{}", load.directory, worker);
      RETURN_IF_ERROR(make_directory(parts[worker].directory));
    }
  }
  Clock::time_point start;
  std::barrier together(static_cast<std::ptrdiff_t>(parts.size()),
                        [&start]() noexcept { start = Clock::now(); });
  std::vector<Outcome<std::size_t>> outcomes(parts.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t worker = 0; worker < parts.size(); ++worker)
      threads.emplace_back([&, worker] {
        together.arrive_and_wait();
        Progress progress(start + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(std::min(load.seconds, 1e6))));
        const auto outcome = work(parts[worker], progress);
        outcomes[worker] = outcome ? Outcome<std::size_t>(progress.done()) : std::unexpected(outcome.error());
      });
  }
  Total total;
  for (const auto& outcome : outcomes) {
    if (!outcome) return std::unexpected(outcome.error());
    total.operations += *outcome;
  }
  if (load.sync_at_end) RETURN_IF_ERROR(sync_file_system(load.directory));
  total.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return total;
}

}  // namespace
}  // namespace fuse4fs

int main(int argc, char** argv) {
  using namespace fuse4fs;
  Load load;
  std::vector<std::string> names;
  for (const auto& [name, kind] : kinds()) names.push_back(name);
  CLI::App app{"The benchmark's load on names and small files"};
  app.add_option("kind", load.kind)->required()->check(CLI::IsMember(names));
  app.add_option("directory", load.directory)->required();
  app.add_option("--count", load.count, "Names that are there, or will be");
  app.add_option("--sample", load.sample, "stat: only so many of them");
  app.add_option("--folders", load.folders, "Spread over so many folders");
  app.add_option("--bytes", load.bytes, "Content of each file, or of each append");
  app.add_option("--workers", load.workers, "Threads, each in a folder of its own")
      ->check(CLI::PositiveNumber);
  app.add_option("--seconds", load.seconds, "Then stop, wherever it is");
  app.add_flag("--sync", load.sync_at_end, "syncfs(2) at the end, in the time");
  CLI11_PARSE(app, argc, argv);

  const auto total = run(load);
  if (!total) {
    fmt::print(stderr, "metadata_load {}: {}\n", load.kind, total.error().message);
    return 1;
  }
  fmt::print("{{\"operations\": {}, \"seconds\": {:.6f}}}\n", total->operations, total->seconds);
  return 0;
}
