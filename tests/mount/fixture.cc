// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/mount/fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <thread>

#include "base/unique_fd.h"

namespace fuse4fs::test {
namespace fs = std::filesystem;

Finished run(const Command& command) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {};
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);

  const pid_t child = ::fork();
  if (child == 0) {
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    ::dup2(writing.get(), STDOUT_FILENO);
    ::dup2(writing.get(), STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  writing.reset();
  Finished finished;
  std::array<char, 4096> chunk{};
  // To the pipe's end: a server that kept the caller's output would hang this test, as it would hang `mount |
  // cat`.
  for (ssize_t bytes; (bytes = ::read(reading.get(), chunk.data(), chunk.size())) > 0;)
    finished.output.append(chunk.data(), static_cast<std::size_t>(bytes));
  int status = 0;
  ::waitpid(child, &status, 0);
  finished.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return finished;
}

std::string contents_of(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string contents;
  std::vector<char> chunk(64 << 10);
  for (ssize_t bytes; file && (bytes = ::read(file.get(), chunk.data(), chunk.size())) > 0;)
    contents.append(chunk.data(), static_cast<std::size_t>(bytes));
  return contents;
}

void write_file(const fs::path& path, std::string_view contents) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  file.close();
  ASSERT_TRUE(file) << path;
}

std::vector<std::string> loop_devices_of(const fs::path& image) {
  std::vector<std::string> devices;
  for (const auto& entry : fs::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop")) continue;
    std::string backing = contents_of(entry.path() / "loop/backing_file");
    if (!backing.empty() && backing.back() == '\n') backing.pop_back();
    if (backing.starts_with(image.string())) devices.push_back("/dev/" + name);
  }
  return devices;
}

bool is_free(const fs::path& image, int seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (!loop_devices_of(image).empty()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

MountTest::MountTest() {
  // Its own mount namespace, so that no other process's copy of this one's mounts keeps a file system alive.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    ADD_FAILURE() << "these tests need root: " << std::strerror(errno);
    std::exit(EXIT_FAILURE);
  }
  // Where a real systemd listens the helper would leave the server to it.
  if (fs::exists("/run/filesystems") && ::mount("tmpfs", "/run/filesystems", "tmpfs", 0, "mode=755") != 0)
    ADD_FAILURE() << "/run/filesystems: " << std::strerror(errno);
  std::string name = "/tmp/fuse4fs-test-XXXXXX";
  scratch_ = ::mkdtemp(name.data());
  fs::permissions(scratch_, fs::perms(0755));  // other users walk through it to the mount
  fs::create_directory(mount_point());
}

MountTest::~MountTest() {
  if (HasFailure()) std::cerr << "the server's log:\n" << log() << "\n";
  // A sanitizer's report reaches nobody but the log.
  EXPECT_THAT(log(), ::testing::Not(::testing::HasSubstr("Sanitizer")));
  EXPECT_THAT(log(), ::testing::Not(::testing::HasSubstr("runtime error")));
  while (::umount2(mount_point().c_str(), MNT_DETACH) == 0) {
  }
  std::ignore = server_ends();
  std::error_code ignored;
  fs::remove_all(scratch_, ignored);
}

fs::path MountTest::make_image(const std::string& size, const Command& mkfs_arguments,
                               const std::string& name) {
  const fs::path image = scratch_ / name;
  Command command{"mkfs.ext4", "-q", "-F"};
  command.insert(command.end(), mkfs_arguments.begin(), mkfs_arguments.end());
  command.insert(command.end(), {image, size});
  const Finished made = run(command);
  EXPECT_EQ(made.status, 0) << made.output;
  return image;
}

Finished MountTest::mount(const fs::path& source, const std::string& options) {
  const std::string log_option = "log=" + (scratch_ / "log").string();
  return run({FUSE4FS_HELPER, source, mount_point(), "-o",
              options.empty() ? log_option : log_option + "," + options});
}

void MountTest::mount_or_fail(const fs::path& source, const std::string& options) {
  const Finished mounted = mount(source, options);
  ASSERT_EQ(mounted.status, 0) << mounted.output;
}

Finished MountTest::unmount() { return run({"umount", mount_point()}); }

void MountTest::unmount_and_check(const fs::path& image) {
  const Finished unmounted = unmount();
  ASSERT_EQ(unmounted.status, 0) << unmounted.output;
  expect_clean(image);
}

void MountTest::expect_clean(const fs::path& image) {
  const Finished judged = run({"e2fsck", "-fn", image});
  EXPECT_EQ(judged.status, 0) << judged.output;
}

void MountTest::kernel_mount(const fs::path& image, const std::string& options) {
  const Finished mounted = run({"mount", "-t", "ext4", "-o", options, image, mount_point()});
  ASSERT_EQ(mounted.status, 0) << mounted.output;
}

std::optional<pid_t> MountTest::server() const {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string title = contents_of(entry.path() / "cmdline");
    const std::string about = " on " + mount_point().string();
    if (title.starts_with("fuse4fs: ") && title.find(about) != std::string::npos) return std::stoi(name);
  }
  return std::nullopt;
}

bool MountTest::server_ends(int seconds) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (server()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace fuse4fs::test
