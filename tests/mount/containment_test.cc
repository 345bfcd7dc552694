// SPDX-License-Identifier: GPL-2.0-or-later
// What the running server is, read from /proc: nothing that it could use if a volume took it over.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::map<std::string, std::string> status_fields(const fs::path& file) {
  std::map<std::string, std::string> fields;
  std::istringstream lines(contents_of(file));
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto value = line.find_first_not_of(" \t", colon + 1);
    fields[line.substr(0, colon)] = value == std::string::npos ? "" : line.substr(value);
  }
  return fields;
}

class Containment : public MountTest {
 protected:
  void SetUp() override {
    image_ = make_image();
    mount_or_fail(image_);
    const auto pid = server();
    ASSERT_TRUE(pid);
    pid_ = *pid;
    proc_ = "/proc/" + std::to_string(*pid);
  }
  void TearDown() override { unmount_and_check(image_); }

  fs::path image_, proc_;
  pid_t pid_ = 0;
};

TEST_F(Containment, EveryThreadIsUnprivilegedAndFiltered) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer's own thread starts before main, with what the process had then";
#endif
  std::size_t threads = 0;
  for (const auto& task : fs::directory_iterator(proc_ / "task")) {
    ++threads;
    auto fields = status_fields(task.path() / "status");
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
      EXPECT_EQ(fields[set], "0000000000000000") << set;
    EXPECT_EQ(fields["NoNewPrivs"], "1");
    EXPECT_EQ(fields["Seccomp"], "2");
    EXPECT_THAT(fields["Uid"], Not(HasSubstr("0\t0")));
    EXPECT_THAT(fields["Gid"], Not(HasSubstr("0\t0")));
    EXPECT_EQ(fields["Groups"], "");
  }
  EXPECT_EQ(threads, 11U);  // the pool of ten, and the one that waits
}

TEST_F(Containment, ItHasNamespacesOfItsOwn) {
  for (const char* kind : {"user", "mnt", "pid", "net", "ipc", "uts"}) {
    EXPECT_NE(fs::read_symlink(proc_ / "ns" / kind), fs::read_symlink(fs::path("/proc/self/ns") / kind))
        << kind;
  }
}

TEST_F(Containment, ItsRootIsEmptyAndItHoldsNobodysMounts) {
  EXPECT_TRUE(fs::is_empty(proc_ / "root/"));
  EXPECT_EQ(fs::read_symlink(proc_ / "cwd"), "/");
  std::istringstream mounts(contents_of(proc_ / "mountinfo"));
  std::size_t count = 0;
  for (std::string line; std::getline(mounts, line); ++count) {
    EXPECT_THAT(line, HasSubstr(" / / ro,nosuid,nodev,noexec"));
    EXPECT_THAT(line, HasSubstr(" - tmpfs "));
  }
  EXPECT_EQ(count, 1U);
}

TEST_F(Containment, ItHoldsExactlyTheDescriptorsThatItNeeds) {
  std::multiset<std::string> held;
  for (const auto& entry : fs::directory_iterator(proc_ / "fd")) held.insert(fs::read_symlink(entry.path()));
  const auto loops = loop_devices_of(image_);
  ASSERT_EQ(loops.size(), 1U);
  const auto processors = static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN));
  EXPECT_EQ(held.count("/dev/fuse"), processors);
  EXPECT_EQ(held.count(loops.front()), 2U);  // through the page cache, and direct
  EXPECT_EQ(held.count("/"), 2U);            // 0 and 1: O_PATH of the empty root
  EXPECT_EQ(held.count("anon_inode:[eventfd]"), 1U);
  EXPECT_EQ(held.count("anon_inode:[signalfd]"), 1U);
  EXPECT_EQ(held.count((scratch() / "log").string()), 1U);
  // The machine's, and its control group's where it is in one.
  const auto pressure = static_cast<std::size_t>(
      std::ranges::count_if(held, [](const fs::path& path) { return path.string().contains("pressure"); }));
  EXPECT_LE(held.count("/proc/pressure/memory"), 1U);
  EXPECT_LE(pressure, 2U);
  EXPECT_EQ(held.size(), processors + 2 + 2 + 1 + 1 + 1 + pressure) << ::testing::PrintToString(held);
}

TEST_F(Containment, ItsTitleNamesDeviceAndMountPoint) {
  const auto loops = loop_devices_of(image_);
  ASSERT_EQ(loops.size(), 1U);
  EXPECT_THAT(contents_of(proc_ / "cmdline"),
              StartsWith("fuse4fs: " + loops.front() + " on " + mount_point().string()));
  EXPECT_THAT(contents_of(proc_ / "environ"), Not(HasSubstr("PATH=")));
}

TEST_F(Containment, ItLeavesNoCoreAndIsLimited) {
  const auto limits = contents_of(proc_ / "limits");
  EXPECT_THAT(limits, ::testing::ContainsRegex("Max core file size +0 +0 "));
  std::istringstream lines(limits);
  std::map<std::string, std::uint64_t> numbers;
  // "Max open files            74                   74                   files", and "unlimited".
  for (std::string line; std::getline(lines, line);)
    numbers[line.substr(0, line.find("  "))] =
        line[26] == 'u' ? UINT64_MAX : std::strtoull(line.c_str() + 26, nullptr, 10);
  EXPECT_LE(numbers["Max open files"], 256U);
  constexpr std::uint64_t kMebibyte = 1 << 20;
  EXPECT_LE(numbers["Max file size"], 65 * kMebibyte) << "of the log";
  EXPECT_GE(numbers["Max file size"], 64 * kMebibyte) << "of the log";
#ifndef FUSE4FS_SANITIZED
  constexpr std::uint64_t kStacks = 12 * 8 * kMebibyte;
  EXPECT_LE(numbers["Max data size"], 1025 * kMebibyte + kStacks);
  EXPECT_GE(numbers["Max data size"], 256 * kMebibyte);
  EXPECT_EQ(numbers["Max address space"], numbers["Max data size"] + 2048 * kMebibyte);
#endif
}

TEST_F(Containment, UnmountingAnotherFileSystemFreesItsDeviceAtOnce) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer's own thread keeps the copied mount tree (helper/server_process.cc)";
#endif
  // The server started in a copy of a mount tree that held this mount as well.
  const auto other = make_image("32M", {}, "other");
  const auto other_mount_point = scratch() / "other-mnt";
  fs::create_directory(other_mount_point);
  ASSERT_EQ(run({"mount", "-t", "ext4", "-o", "loop", other, other_mount_point}).status, 0);
  const auto third = make_image("32M", {}, "third");
  const auto third_mount_point = scratch() / "third-mnt";
  fs::create_directory(third_mount_point);
  const auto mounted =
      run({FUSE4FS_HELPER, third, third_mount_point, "-o", "log=" + (scratch() / "log3").string()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;

  ASSERT_EQ(run({"umount", other_mount_point}).status, 0);
  EXPECT_THAT(loop_devices_of(other), IsEmpty());
  ASSERT_EQ(run({"umount", third_mount_point}).status, 0);
  EXPECT_THAT(loop_devices_of(third), IsEmpty());
  expect_clean(third);
}

}  // namespace
}  // namespace fuse4fs::test
