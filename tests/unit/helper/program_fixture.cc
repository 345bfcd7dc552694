// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/unit/helper/program_fixture.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/unique_fd.h"
#include "helper/abort.h"

namespace fuse4fs::helper::testing {

namespace fs = std::filesystem;

std::string text_of_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<pid_t> processes_of(const std::string& program) {
  std::vector<pid_t> processes;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::error_code error;
    if (fs::read_symlink(entry.path() / "exe", error) == program)
      processes.push_back(std::stoi(entry.path().filename()));
  }
  return processes;
}

bool soon(const std::function<bool()>& condition) {
  constexpr std::chrono::seconds kLimit{60};
  const auto end = std::chrono::steady_clock::now() + kLimit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

void ProgramTest::SetUp() {
  REQUIRE_FUSE();
  image_ = directory_.make_image("image");
  mount_point_ = fs::canonical(directory_.make_directory("mnt"));
  helper_ = directory_.make_directory("sbin") + "/mount.fuse4fs";
  server_ = directory_.make_directory("libexec/fuse4fs") + "/fuse4fs";
  fs::copy_file("/proc/self/exe", helper_);
  fs::copy_file("/proc/self/exe", server_);
}

void ProgramTest::TearDown() {
  if (image_.empty()) return;
  [[maybe_unused]] const auto aborted = abort_mount(mount_point_, "fuse4fs");
  ::umount2(mount_point_.c_str(), MNT_DETACH);
  expect_nothing_left();
}

void ProgramTest::expect_nothing_left() {
  EXPECT_FALSE(find_mount(mount_point_));
  EXPECT_EQ(loop_devices_left(image_), 0);
  EXPECT_TRUE(soon([&] { return processes_of(server_).empty(); })) << "a server lives on";
}

void ProgramTest::expect_no_trace() {
  expect_nothing_left();
  EXPECT_FALSE(record());
}

pid_t ProgramTest::start(std::vector<std::string> arguments, int standard_error) {
  arguments.insert(arguments.begin(), helper_);
  const UniqueFd words(
      ::open(directory_.path("words").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const int said_to = standard_error >= 0 ? standard_error : words.get();
  if (said_to < 0 || ::dup2(said_to, STDERR_FILENO) < 0) ::_exit(125);
  ::setenv("SECRET", "1", 1);
  // Inheritable: what a careless caller leaves open.
  (void)::open("/etc/passwd", O_RDONLY);
  ::execv(helper_.c_str(), pointers.data());
  ::_exit(126);
}

ProgramTest::Ended ProgramTest::wait(pid_t pid) {
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid) return {};
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status),
          text_of_file(directory_.path("words"))};
}

ProgramTest::Ended ProgramTest::mount(Behaviour behaviour, const std::string& options) {
  return run({image_, mount_point_, "-v", "-o",
              fmt::format("standalone,{},threads={}", options, static_cast<int>(behaviour))});
}

void ProgramTest::plan_attack(Attack attack, int step) {
  std::ofstream(attack_file(server_)) << static_cast<int>(attack) << ' ' << step << '\n';
}

std::optional<MountRecord> ProgramTest::record() const {
  const auto records = RecordDirectory::open();
  if (!records) return std::nullopt;
  const auto all = records->all();
  const auto found = std::ranges::find(all, image_, &MountRecord::origin);
  if (found == all.end()) return std::nullopt;
  return *found;
}

}  // namespace fuse4fs::helper::testing
