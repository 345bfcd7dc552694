// SPDX-License-Identifier: GPL-2.0-or-later
// The whole of it: who may enter, and what others see of a process that has entered.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "child.h"

namespace fuse4fs::sandbox::test {
namespace {

using testing::HasSubstr;

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator(file), {}};
}

std::map<std::string, std::string> status_fields(const std::string& directory) {
  std::ifstream file(directory + "/status");
  std::map<std::string, std::string> fields;
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    const auto value = line.find_first_not_of(" \t", colon + 1);
    fields[line.substr(0, colon)] = value == std::string::npos ? "" : line.substr(value);
  }
  return fields;
}

// A child that has entered with three threads and one kept descriptor, and waits to be looked at.
class Inside {
 public:
  explicit Inside(Start start)
      : child_(start, [this] {
          // Something to be closed.
          REQUIRE(::dup2(STDERR_FILENO, 100) == 100);
          std::mutex mutex;
          std::condition_variable never;
          const auto wait_for_ever = [&] {
            std::unique_lock lock(mutex);
            never.wait(lock, [] { return false; });
          };
          const int socket = sockets_.child.get();
          const Report report =
              enter_or_end({.kept_descriptors = {socket}, .start_threads = [&]() -> Result<void> {
                              for (int i = 0; i < 2; ++i) std::thread(wait_for_ever).detach();
                              return {};
                            }});
          REQUIRE(::write(socket, &report, sizeof(report)) == sizeof(report));
          wait_for_ever();
        }) {
    // If the child ends, reading does.
    child_end_ = sockets_.child.get();
    sockets_.child.reset();
    EXPECT_EQ(::read(sockets_.parent.get(), &report_, sizeof(report_)),
              static_cast<ssize_t>(sizeof(report_)));
  }

  [[nodiscard]] const Report& report() const { return report_; }
  [[nodiscard]] int kept() const { return child_end_; }
  [[nodiscard]] std::string proc() const { return fmt::format("/proc/{}", child_.pid()); }

 private:
  SocketPair sockets_;
  Report report_;
  int child_end_ = -1;
  Child child_;
};

class Entered : public testing::TestWithParam<Start> {};
INSTANTIATE_TEST_SUITE_P(Sandbox, Entered,
                         testing::Values(Start::kOwnNamespaces, Start::kOwnNamespacesAdminOnly,
                                         Start::kHostAdmin, Start::kNoCapability));

TEST_P(Entered, EveryThreadIsConfined) {
  const Inside inside(GetParam());
  int threads = 0;
  for (const auto& task : std::filesystem::directory_iterator(inside.proc() + "/task")) {
    auto fields = status_fields(task.path());
#ifdef __SANITIZE_THREAD__
    // ThreadSanitizer's own thread, older than the sandbox.
    if (contents(task.path() / "comm") != "fuse4fs\n") continue;
#endif
    ++threads;
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
      EXPECT_EQ(fields[set], "0000000000000000") << set;
    if (inside.report().empty_bounding_set) {
      EXPECT_EQ(fields["CapBnd"], "0000000000000000");
    }
    EXPECT_EQ(fields["NoNewPrivs"], "1");
    EXPECT_EQ(fields["Seccomp"], "2");
    EXPECT_EQ(fields["Uid"], "65534\t65534\t65534\t65534");
    EXPECT_EQ(contents(task.path() / "comm"), "fuse4fs\n");
  }
  EXPECT_EQ(threads, 3);
}

TEST_P(Entered, OnlyKeptDescriptorsAreOpen) {
  const Inside inside(GetParam());
  std::set<std::string> open;
  for (const auto& entry : std::filesystem::directory_iterator(inside.proc() + "/fd")) {
    open.insert(entry.path().filename());
  }
  EXPECT_EQ(open, (std::set<std::string>{"0", "1", "2", std::to_string(inside.kept())}));
  for (const char* fd : {"0", "1"}) {
    const std::string flags = contents(inside.proc() + "/fdinfo/" + fd);
    const auto value = std::stoul(flags.substr(flags.find("flags:") + 6), nullptr, 8);
    EXPECT_TRUE((value & O_PATH) != 0) << flags;
  }
}

TEST_P(Entered, TheReportIsTrue) {
  const Inside inside(GetParam());
  const Start start = GetParam();
  const Report& report = inside.report();
  EXPECT_EQ(report.own_user_namespace,
            start == Start::kOwnNamespaces || start == Start::kOwnNamespacesAdminOnly);
  EXPECT_EQ(report.empty_root, start != Start::kNoCapability);
  EXPECT_EQ(report.empty_bounding_set, start == Start::kOwnNamespaces);
  EXPECT_EQ(report.landlock, report.landlock_abi > 0);
  EXPECT_EQ(std::filesystem::is_empty(inside.proc() + "/root"), report.empty_root);
  // The mount tree that came along is let go: one line, the empty root, and none of ours.
  const std::string mounts = contents(inside.proc() + "/mountinfo");
  EXPECT_EQ(std::ranges::count(mounts, '\n') == 1, report.empty_root) << mounts;
  if (report.empty_root) {
    EXPECT_THAT(mounts, HasSubstr(" / / ro,nosuid,nodev,noexec"));
    EXPECT_EQ(std::filesystem::read_symlink(inside.proc() + "/cwd"), "/");
  }
}

TEST_P(Entered, OthersCannotLookInside) {
  const Inside inside(GetParam());
  struct stat owner{};
  // Belongs to root, since it is not dumpable: no other process of its user may trace it.
  ASSERT_EQ(::stat((inside.proc() + "/mem").c_str(), &owner), 0);
  EXPECT_EQ(owner.st_uid, 0U);
  EXPECT_THAT(contents(inside.proc() + "/limits"),
              HasSubstr("Max core file size        0                    0"));
}

void expect_refused(Start start, const std::function<Outcome<Report>()>& attempt, int error,
                    const std::string& words) {
  testing::internal::CaptureStderr();
  Child child(start, [&] {
    const auto report = attempt();
    REQUIRE(!report);
    static_cast<void>(!::write(STDERR_FILENO, report.error().message.data(), report.error().message.size()));
    REQUIRE(report.error().error == Errno(error));
  });
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(words));
}

TEST(Sandbox, RefusesRoot) {
  expect_refused(Start::kRoot, [] { return enter({}); }, EPERM, "does not run as root");
}

TEST(Sandbox, RefusesADescriptorThatIsNone) {
  expect_refused(
      Start::kNoCapability, [] { return enter({.kept_descriptors = {-1}, .start_threads = {}}); }, EBADF,
      "not open");
}

TEST(Sandbox, HandsOnTheFailureOfTheThreads) {
  expect_refused(
      Start::kNoCapability,
      [] {
        return enter({.kept_descriptors = {}, .start_threads = [] { return Result<void>(fail(EAGAIN)); }});
      },
      EAGAIN, "cannot start the server's threads");
}

#ifndef FUSE4FS_SANITIZED  // Not checked there: the sanitizer may have a thread of its own.
TEST(Sandbox, RefusesWithThreadsRunning) {
  expect_refused(
      Start::kNoCapability,
      [] {
        std::thread([] { std::this_thread::sleep_for(std::chrono::minutes(1)); }).detach();
        return enter({});
      },
      EBUSY, "threads running");
}
#endif

// What main() gets. Copied, as gtest takes its own arguments out of the array.
constinit std::vector<char*> saved_arguments;
[[gnu::constructor]] void save_arguments(int argc, char** argv, char**) {
  saved_arguments.assign(argv, argv + argc);
}

std::string title_seen(const std::string& title) {
  SocketPair sockets;
  Child child(Start::kOwnNamespaces, [&] {
    const std::string path = std::getenv("PATH");
    set_title_area(static_cast<int>(saved_arguments.size()), saved_arguments.data());
    enter_or_end({.kept_descriptors = {sockets.child.get()}, .start_threads = {}});
    set_title(title);
    REQUIRE(std::getenv("PATH") == path);
    REQUIRE(::write(sockets.child.get(), "s", 1) == 1);
    char byte = 0;
    static_cast<void>(!::read(sockets.child.get(), &byte, 1));
  });
  sockets.child.reset();
  char set = 0;
  EXPECT_EQ(::read(sockets.parent.get(), &set, 1), 1);
  std::string seen = contents(fmt::format("/proc/{}/cmdline", child.pid()));
  seen.erase(seen.find_last_not_of('\0') + 1);
  return seen;
}

TEST(Sandbox, ShowsATitle) {
  EXPECT_EQ(title_seen("fuse4fs"), "fuse4fs");
  EXPECT_EQ(title_seen(""), "");
  // As long as the arguments, one byte to each side, and far into the environment's place.
  std::size_t arguments = 0;
  for (const char* argument : saved_arguments) arguments += std::strlen(argument) + 1;
  for (const std::size_t length : {arguments - 2, arguments - 1, arguments, arguments + 1, arguments + 100}) {
    const std::string title(length, 't');
    EXPECT_EQ(title_seen(title), title) << length;
  }
  // Cut where the place ends, and no crash.
  EXPECT_THAT(title_seen(std::string(1 << 20, 't')), testing::StartsWith("ttt"));
}

}  // namespace
}  // namespace fuse4fs::sandbox::test
