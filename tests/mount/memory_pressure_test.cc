// SPDX-License-Identifier: GPL-2.0-or-later
// Somebody is short of memory, for real, in a control group that may have little of it: the server gives back
// what it has cached.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "base/unique_fd.h"
#include "tests/mount/fixture.h"

namespace fuse4fs::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

bool write_word(const fs::path& path, const std::string& word) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return file && ::write(file.get(), word.data(), word.size()) == ssize_t(word.size());
}

// A control group, until the end of what is in it.
class ControlGroup {
 public:
  explicit ControlGroup(const fs::path& hierarchy)
      : path_(hierarchy / fmt::format("fuse4fs-test-{}", ::getpid())) {
    std::error_code error;
    made_ = fs::create_directory(path_, error);
  }
  ControlGroup(const ControlGroup&) = delete;
  ControlGroup& operator=(const ControlGroup&) = delete;
  ~ControlGroup() {
    std::error_code error;
    for (int i = 0; made_ && i < 1000; ++i, std::this_thread::sleep_for(10ms)) {
      if (fs::remove(path_, error)) return;
    }
  }
  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] const fs::path& path() const { return path_; }
  [[nodiscard]] bool take(pid_t process) const {
    return write_word(path_ / "cgroup.procs", std::to_string(process));
  }

 private:
  fs::path path_;
  bool made_ = false;
};

fs::path unified_hierarchy() {
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
    if (fs::exists(fs::path(path) / "cgroup.controllers")) return path;
  return {};
}

// Where groups may be made whose memory is limited, and the file with the limit.
struct MemoryController {
  fs::path hierarchy, limit;
};
MemoryController memory_controller() {
  if (fs::exists("/sys/fs/cgroup/memory/cgroup.procs"))
    return {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"};
  const fs::path unified = unified_hierarchy();
  if (!unified.empty() && contents_of(unified / "cgroup.subtree_control").find("memory") != std::string::npos)
    return {unified, "memory.max"};
  return {};
}

// Writes a file again and again that is larger than what it may have of the page cache.
class ShortOfMemory {
 public:
  ShortOfMemory(const ControlGroup& group, const fs::path& file) {
    child_ = ::fork();
    if (child_ != 0) return;
    const std::string itself = std::to_string(::getpid());
    const int members = ::open((group.path() / "cgroup.procs").c_str(), O_WRONLY);
    if (::write(members, itself.data(), itself.size()) < 0) ::_exit(1);
    const int data = ::open(file.c_str(), O_WRONLY | O_CREAT, 0600);
    static char piece[1 << 20];
    constexpr int kPieces = 64;
    while (true) {
      for (int i = 0; i < kPieces; ++i) {
        piece[0] = static_cast<char>(i);
        if (::pwrite(data, piece, sizeof piece, off_t{i} * off_t{sizeof piece}) < 0) ::_exit(2);
      }
    }
  }
  ShortOfMemory(const ShortOfMemory&) = delete;
  ShortOfMemory& operator=(const ShortOfMemory&) = delete;
  ~ShortOfMemory() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

 private:
  pid_t child_ = -1;
};

bool pressure_is_told() {
  // Readable where it is absent no more than where it is switched off (EOPNOTSUPP).
  return !contents_of("/proc/pressure/memory").empty();
}

class MemoryPressure : public MountTest {
 protected:
  // KiB of the server's memory that is nobody else's.
  [[nodiscard]] long anonymous_memory() const {
    const std::string status = contents_of(fmt::format("/proc/{}/status", server().value_or(0)));
    const auto line = status.find("RssAnon:");
    return line == std::string::npos ? -1 : std::strtol(status.c_str() + line + 8, nullptr, 10);
  }
  // What the server has said that it gave back, in KiB.
  [[nodiscard]] long given_back() const {
    constexpr std::string_view kWords = "memory is short: ";
    const std::string text = log();
    const auto found = text.find(kWords);
    return found == std::string::npos ? -1 : std::strtol(text.c_str() + found + kWords.size(), nullptr, 10);
  }
};

TEST_F(MemoryPressure, TheServerGivesItsCachesBack) {
  if (!pressure_is_told()) GTEST_SKIP() << "this kernel tells no memory pressure";
  const MemoryController controller = memory_controller();
  if (controller.hierarchy.empty()) GTEST_SKIP() << "no control group can limit memory here";
  struct statfs where{};
  ASSERT_EQ(::statfs(scratch().c_str(), &where), 0);
  if (where.f_type == TMPFS_MAGIC) GTEST_SKIP() << "files in /tmp are memory themselves";
  const ControlGroup group(controller.hierarchy);
  if (!group.made() || !write_word(group.path() / controller.limit, std::to_string(32 << 20)))
    GTEST_SKIP() << "no control group can be made in " << controller.hierarchy;

  // Each inode is a quarter of a block: 12 MiB of the inode tables to cache.
  constexpr int kFiles = 12'000;
  const auto image = make_image("128M", {"-b", "4096", "-I", "1024", "-N", "16000"});
  mount_or_fail(image, "debug");
  for (int i = 0; i < kFiles; ++i)
    ASSERT_TRUE(UniqueFd(::open((mount_point() / std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600)));
  EXPECT_EQ(run({"sync", "-f", mount_point()}).status, 0);
  [[maybe_unused]] const long before = anonymous_memory();
  if (given_back() >= 0) GTEST_SKIP() << "the machine was short of memory before this test was";
  {
    const ShortOfMemory process(group, scratch() / "big");
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (given_back() < 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(50ms);
  }
  EXPECT_GT(given_back(), 4000);
#ifndef FUSE4FS_SANITIZED
  EXPECT_LT(anonymous_memory(), before - 3000) << "in KiB; it was " << before;
#endif
  // Nothing is lost by it.
  for (int i = 0; i < kFiles; i += 100) EXPECT_TRUE(fs::exists(mount_point() / std::to_string(i))) << i;
  unmount_and_check(image);
}

#ifndef FUSE4FS_SANITIZED
// 16 MiB of inode tables, all of them read.
TEST_F(MemoryPressure, TheCacheIsAsLargeAsWasAskedFor) {
  long memory[2] = {};
  for (const bool small : {false, true}) {
    const auto image = make_image("128M", {"-b", "4096", "-I", "1024", "-N", "16000"});
    mount_or_fail(image, small ? "debug,cache_size=4m" : "debug");
    for (int i = 0; i < 15'000; ++i)
      ASSERT_TRUE(UniqueFd(::open((mount_point() / std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600)));
    EXPECT_EQ(run({"sync", "-f", mount_point()}).status, 0);
    memory[small ? 1 : 0] = anonymous_memory();
    if (given_back() >= 0) GTEST_SKIP() << "the machine is short of memory beside this test";
    unmount_and_check(image);
  }
  EXPECT_GT(memory[1], 0);
  EXPECT_LT(memory[1], memory[0] - 8000) << "in KiB";
}
#endif

TEST_F(MemoryPressure, ItHoldsAFileOfItsOwnGroupToo) {
  if (!pressure_is_told()) GTEST_SKIP() << "this kernel tells no memory pressure";
  const fs::path unified = unified_hierarchy();
  if (unified.empty()) GTEST_SKIP() << "the unified hierarchy of control groups is mounted nowhere";
  const auto image = make_image();
  {
    const ControlGroup group(unified);
    if (!group.made() || !fs::exists(group.path() / "memory.pressure") || !group.take(::getpid()))
      GTEST_SKIP() << "no control group with a pressure file can be made in " << unified;
    mount_or_fail(image);
    const auto pid = server();
    ASSERT_TRUE(pid);
    std::vector<std::string> held;
    for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", *pid))) {
      const auto path = fs::read_symlink(entry.path());
      if (path != "/proc/pressure/memory" && path.filename() != "memory.pressure") continue;
      held.push_back(path);
      const auto info =
          contents_of(fmt::format("/proc/{}/fdinfo/{}", *pid, entry.path().filename().string()));
      const auto flags = info.find("flags:");
      ASSERT_NE(flags, std::string::npos);
      EXPECT_EQ(std::strtoul(info.c_str() + flags + 6, nullptr, 8) & O_ACCMODE, unsigned{O_WRONLY}) << path;
    }
    EXPECT_THAT(held, ::testing::UnorderedElementsAre("/proc/pressure/memory",
                                                      (group.path() / "memory.pressure").string()));
    // Its group is gone while it serves: the file tells of an error, and of nothing again.
    EXPECT_TRUE(write_word(unified / "cgroup.procs", std::to_string(*pid)));
    EXPECT_TRUE(write_word(unified / "cgroup.procs", std::to_string(::getpid())));
  }
  const auto one_is_left = [&] {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", server().value_or(0)))) {
      std::error_code gone;
      count += fs::read_symlink(entry.path(), gone).string().find("pressure") != std::string::npos ? 1 : 0;
    }
    return count == 1;
  };
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (!one_is_left() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(50ms);
  EXPECT_TRUE(one_is_left());
  unmount_and_check(image);
}

}  // namespace
}  // namespace fuse4fs::test
