// SPDX-License-Identifier: GPL-2.0-or-later
// Real pressure files, and a control group of this test's own. That pressure arrives: tests/mount.
#include "helper/memory_pressure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "helper/mount_table.h"

namespace fuse4fs::helper {
namespace {

namespace fs = std::filesystem;

// A child that does nothing, in a new control group below that of no process.
class ChildInAGroup {
 public:
  explicit ChildInAGroup(const std::string& unified)
      : group_(fmt::format("{}/fuse4fs-test-{}", unified, ::getpid())) {
    std::error_code error;
    if (!fs::create_directory(group_, error)) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::pause();
      ::_exit(0);
    }
    std::ofstream members(group_ + "/cgroup.procs");
    members << pid_ << std::flush;
    moved_ = members.good();
  }
  ChildInAGroup(const ChildInAGroup&) = delete;
  ChildInAGroup& operator=(const ChildInAGroup&) = delete;
  ~ChildInAGroup() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    std::error_code ignored;
    fs::remove(group_, ignored);
  }
  [[nodiscard]] pid_t pid() const { return moved_ ? pid_ : 0; }
  [[nodiscard]] const std::string& path() const { return group_; }

 private:
  std::string group_;
  pid_t pid_ = -1;
  bool moved_ = false;
};

void expect_to_be_pollable_only(int file) {
  EXPECT_EQ(::fcntl(file, F_GETFL) & O_ACCMODE, O_WRONLY);
  char byte = 0;
  EXPECT_EQ(::read(file, &byte, 1), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(::pread(file, &byte, 1, 0), -1);
  constexpr char kAnother[] = "full 1000 2000000";
  EXPECT_EQ(::write(file, kAnother, sizeof kAnother), -1) << "a trigger of its own";
  EXPECT_EQ(errno, EBUSY);
  EXPECT_EQ(::pwrite(file, kAnother, sizeof kAnother, 0), -1);
  pollfd event{.fd = file, .events = POLLPRI, .revents = 0};
  // Pressure may be there by chance, an error may not.
  EXPECT_GE(::poll(&event, 1, 0), 0);
  EXPECT_EQ(event.revents & ~POLLPRI, 0);
}

TEST(MemoryPressure, TheMachinesFileCanOnlyBePolled) {
  const auto file = watch_memory_pressure(kMachinePressure);
  if (!file) GTEST_SKIP() << kMachinePressure << ": " << file.error().message();
  expect_to_be_pollable_only(file->get());
  EXPECT_TRUE(watch_memory_pressure(kMachinePressure)) << "each open file has a trigger of its own";
}

TEST(MemoryPressure, NoFileIsNoPressure) {
  EXPECT_EQ(watch_memory_pressure("").error(), Errno(ENOENT));
  EXPECT_FALSE(watch_memory_pressure("/proc/version"));
  EXPECT_EQ(pressure_file_of(0), "");
}

TEST(MemoryPressure, AControlGroupHasAFileOfItsOwn) {
  const auto unified = whole_mount_of_type("cgroup2");
  if (!unified) GTEST_SKIP() << "the unified hierarchy of control groups is mounted nowhere";
  const ChildInAGroup child(unified->mount_point);
  if (child.pid() == 0) GTEST_SKIP() << "no control group can be made in " << unified->mount_point;
  const std::string path = pressure_file_of(child.pid());
  if (!fs::exists(child.path() + "/memory.pressure")) {
    EXPECT_EQ(path, "");
    GTEST_SKIP() << "this kernel tells no pressure of control groups";
  }
  EXPECT_EQ(path, child.path() + "/memory.pressure");
  const auto file = watch_memory_pressure(path);
  ASSERT_TRUE(file) << file.error().message();
  expect_to_be_pollable_only(file->get());
}

}  // namespace
}  // namespace fuse4fs::helper
