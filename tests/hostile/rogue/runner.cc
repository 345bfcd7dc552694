// SPDX-License-Identifier: GPL-2.0-or-later
// Runs every attempt, each as a mount of its own through the real helper, and judges what came of it.
#include "tests/hostile/rogue/runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/unique_fd.h"
#include "tests/hostile/rogue/outside.h"

namespace fuse4fs::rogue {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Finished {
  int status = -1;
  std::string words;
};

// The helper, to its end. One that does not end is killed, which is a failure (status -1).
Finished run(const std::vector<std::string>& command) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
  pid_t pid = 0;
  const int spawned = ::posix_spawn(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) return {.status = -1, .words = std::strerror(spawned)};
  writing.reset();

  Finished finished;
  const auto end = Clock::now() + outside::kPatience;
  std::array<char, 4096> bytes{};
  bool hangs = false;
  for (;;) {
    pollfd wait{.fd = reading.get(), .events = POLLIN, .revents = 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0 || ::poll(&wait, 1, static_cast<int>(left)) == 0) {
      hangs = true;
      ::kill(pid, SIGKILL);
      break;
    }
    const ssize_t length = ::read(reading.get(), bytes.data(), bytes.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    finished.words.append(bytes.data(), static_cast<std::size_t>(length));
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  finished.status = !hangs && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (hangs) finished.words += "\n(the helper did not end)";
  return finished;
}

struct Record {
  bool entered = false;
  std::optional<Verdict> verdict;
};

Record read_record(const std::string& path, std::string_view name) {
  Record record;
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) {
    // Where a hole was punched into it.
    line.erase(0, line.find_first_not_of('\0'));
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != '\t') continue;
    const std::string_view rest = std::string_view(line).substr(name.size() + 1);
    if (rest == "entered") record.entered = true;
    static constexpr std::array<std::string_view, 4> kKinds{"errno\t", "refused\t", "ended\t", "succeeded\t"};
    for (std::size_t kind = 0; kind < kKinds.size(); ++kind) {
      if (!rest.starts_with(kKinds[kind])) continue;
      const auto number = rest.substr(kKinds[kind].size());
      record.verdict = Verdict{static_cast<Verdict::Kind>(kind), std::atoi(std::string(number).c_str()),
                               std::string(number.substr(number.find('\t') + 1))};
    }
  }
  // A log that may not grow any more takes no last word either.
  constexpr std::uintmax_t kLimit = std::uintmax_t{64} << 20;
  std::error_code error;
  const auto size = fs::file_size(path, error);
  if (!error && record.entered && !record.verdict && size >= kLimit && size < kLimit + 4096)
    record.verdict = Verdict{Verdict::Kind::kErrno, EFBIG, {}};
  return record;
}

bool has_mount(const fs::path& mount_point) {
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);)
    if (line.find(" " + mount_point.string() + " ") != std::string::npos) return true;
  return false;
}

std::string words_of(const Verdict& verdict) {
  switch (verdict.kind) {
    case Verdict::Kind::kErrno:
      return ::strerrorname_np(verdict.error);
    case Verdict::Kind::kRefused:
      return fmt::format("helper: {}", ::strerrorname_np(verdict.error));
    case Verdict::Kind::kEnded:
      return "helper breaks off";
    case Verdict::Kind::kSucceeded:
      return verdict.words.empty() ? "works" : fmt::format("works: {}", verdict.words);
  }
  return {};
}

bool matches(Expected expected, const Verdict& verdict) {
  switch (expected) {
    case Expected::kKilled:
      return false;
    case Expected::kErrno:
      return verdict.kind == Verdict::Kind::kErrno;
    case Expected::kRefused:
      return verdict.kind == Verdict::Kind::kRefused;
    case Expected::kEnded:
      return verdict.kind == Verdict::Kind::kEnded;
    case Expected::kAllowed:
      return verdict.kind == Verdict::Kind::kSucceeded;
  }
  return false;
}

class Runner {
 public:
  Runner(const RunnerOptions& options, fs::path scratch) : options_(options), scratch_(std::move(scratch)) {}

  Seen attempt(const Attempt& attempt) const;

 private:
  [[nodiscard]] std::string mount_options(const Attempt& attempt, const std::string& record) const;
  [[nodiscard]] Seen judge(const Attempt& attempt, const Record& record, const Finished& mounted) const;

  const RunnerOptions& options_;
  fs::path scratch_;
};

std::string Runner::mount_options(const Attempt& attempt, const std::string& record) const {
  std::string list = "log=" + record;
  list += options_.mode == Mode::kService ? ",service=/run/filesystems/fuse4fs" : ",standalone";
  if (*attempt.options != '\0') list += fmt::format(",{}", attempt.options);
  return list;
}

Seen Runner::judge(const Attempt& attempt, const Record& record, const Finished& mounted) const {
  Seen seen{.attempt = &attempt, .result = {}, .failure = {}};
  if (!record.entered && record.verdict) {
    // What it wrote first is gone.
    seen.result = "works: the log is erased";
    if (options_.filter == Filter::kOn || attempt.behind.alone == Behind::Alone::kNo)
      seen.failure = seen.result;
    return seen;
  }
  if (!record.entered) {
    seen.failure = "it never came into the sandbox";
    return seen;
  }
  if (!record.verdict) {
    // The helper knows how a server of its own ended; systemd's service is told apart from a crash by its
    // handlers.
    const bool killed =
        options_.mode == Mode::kService || mounted.words.find("signal 31") != std::string::npos;
    seen.result = killed ? "killed" : "ended without a word";
    if (!killed) seen.failure = seen.result;
    if (attempt.expected != Expected::kKilled && killed)
      seen.failure = "the filter killed what it should let pass";
    return seen;
  }
  seen.result = words_of(*record.verdict);
  if (options_.filter == Filter::kOn) {
    if (!matches(attempt.expected, *record.verdict)) seen.failure = "another end than the table's";
  } else if (record.verdict->kind == Verdict::Kind::kSucceeded &&
             attempt.behind.alone == Behind::Alone::kNo) {
    seen.failure = "without the filter it works: the table says that something stands behind";
  }
  return seen;
}

Seen Runner::attempt(const Attempt& attempt) const {
  // A directory and an image of its own: no attempt depends on how another one left things.
  const fs::path directory = scratch_ / attempt.name;
  const fs::path mount_point = directory / attempt.name;
  fs::create_directories(mount_point);
  const std::string record_path = directory / "record";
  const std::string image = directory / "image";
  {
    const UniqueFd file(::open(image.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    if (::ftruncate(file.get(), 4 << 20) != 0) return {&attempt, {}, "no image"};
  }
  const Finished mounted =
      run({options_.helper, image, mount_point, "-o", mount_options(attempt, record_path)});
  const Outside outside{.mount_point = mount_point, .record = record_path, .helper = options_.helper};
  Record record;
  if (mounted.status == 0) {
    std::optional<Verdict> verdict;
    if (attempt.outside != nullptr) verdict = attempt.outside(outside);
    if (attempt.outside == nullptr) verdict = succeeded("the helper says that it is mounted");
    record = read_record(record_path, attempt.name);
    record.verdict = verdict;
    // Ends the server as well. Some looks have done so already.
    if (attempt.outside == nullptr || has_mount(mount_point)) (void)outside::abort_mount(outside);
  } else {
    record = read_record(record_path, attempt.name);
  }
  // A loop device that was given another status does not clear itself any more.
  (void)run({"/bin/sh", "-c", R"(losetup -n -O NAME -j "$0" | xargs -r -n 1 losetup -d)", image});
  Seen seen = judge(attempt, record, mounted);
  if (mounted.status == -1) seen.failure = "the helper did not end";
  if (!seen.failure.empty())
    seen.failure += fmt::format("\n  helper (status {}): {}", mounted.status, mounted.words);
  std::error_code ignored;
  fs::remove_all(directory, ignored);
  return seen;
}

}  // namespace

std::vector<Seen> run_all(const RunnerOptions& options) {
  // So that no other process's copy of these mounts keeps them alive; and what is left goes with it.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    fmt::print(stderr, "needs root: {}\n", std::strerror(errno));
    return {};
  }
  std::string name = "/tmp/fuse4fs-rogue-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) return {};
  // All that the rogue can ever write lies here: a full disk would be the tests' own doing.
  if (::mount("rogue", name.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=256m,mode=0755") != 0) {
    fmt::print(stderr, "no file system for what the rogue writes: {}\n", std::strerror(errno));
    ::rmdir(name.c_str());
    return {};
  }
  std::vector<const Attempt*> attempts;
  for (const Theme& theme : themes())
    for (const Attempt& attempt : theme.attempts)
      if ((options.filter == Filter::kOn || attempt.expected == Expected::kKilled) &&
          (options.only.empty() || options.only == attempt.name))
        attempts.push_back(&attempt);
  std::vector<Seen> seen(attempts.size());
  const Runner runner(options, name);
  std::atomic<std::size_t> next = 0;
  {
    constexpr unsigned kWorkers = 3;
    std::vector<std::jthread> workers;
    for (unsigned i = 0; i < kWorkers; ++i)
      workers.emplace_back([&] {
        for (std::size_t at; (at = next++) < attempts.size();) {
          const auto begin = Clock::now();
          seen[at] = runner.attempt(*attempts[at]);
          const auto took = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - begin).count();
          if (took > 4) fmt::print("{} took {} s\n", attempts[at]->name, took);
        }
      });
  }
  ::umount2(name.c_str(), MNT_DETACH);
  ::rmdir(name.c_str());
  return seen;
}

}  // namespace fuse4fs::rogue
