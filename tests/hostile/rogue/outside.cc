// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/rogue/outside.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <spawn.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

#include "base/unique_fd.h"

namespace fuse4fs::rogue::outside {

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

namespace {

using Clock = std::chrono::steady_clock;

template <class Condition>
bool comes_true(Condition condition) {
  for (const auto end = Clock::now() + kPatience; !condition();) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// A process that does something with the mount and may hang in it.
class User {
 public:
  template <class Deed>
  explicit User(Deed deed) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(deed() == 0 ? 0 : 1);
  }
  // Without waiting: it may hang in the mount still, which nobody can end but the abort that comes after.
  ~User() {
    if (pid_ > 0 && !ended_) ::kill(pid_, SIGKILL);
  }
  bool has_ended() { return ended_ = ended_ || ::waitpid(pid_, nullptr, WNOHANG) == pid_; }

 private:
  pid_t pid_;
  bool ended_ = false;
};

Verdict trouble(std::string words) { return {Verdict::Kind::kErrno, ETIMEDOUT, std::move(words)}; }

constexpr char kNoEnd[] = "the mount does not answer";

bool waits_in(const Outside& mount, std::uint32_t opcode) {
  const auto line = "hangs on " + std::to_string(opcode);
  return comes_true([&] { return contents_of(mount.record).find(line) != std::string::npos; });
}

// The answer of systemctl show, without its line break.
std::string property(const std::string& unit, const char* name) {
  const std::string command = std::string("systemctl show -P ") + name + " '" + unit + "'";
  std::string answer;
  std::array<char, 256> bytes{};
  std::FILE* const pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) return answer;
  while (std::fgets(bytes.data(), bytes.size(), pipe) != nullptr) answer += bytes.data();
  ::pclose(pipe);
  while (answer.ends_with('\n')) answer.pop_back();
  return answer;
}

// A value of the record that the helper wrote of this mount.
std::string recorded(const Outside& mount, const std::string& key) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/run/fuse4fs/mounts", error)) {
    const std::string text = contents_of(entry.path());
    if (text.find("MOUNT_POINT=" + mount.mount_point + "\n") == std::string::npos) continue;
    const auto at = text.find("\n" + key + "=");
    if (at == std::string::npos) return {};
    const auto begin = at + key.size() + 2;
    return text.substr(begin, text.find('\n', begin) - begin);
  }
  return {};
}

}  // namespace

Verdict main_process_stays(const Outside& mount) {
  const std::string unit = recorded(mount, "UNIT");
  if (unit.empty()) {
    errno = ENOTCONN;  // standalone: there is no systemd to be told anything
    return by_errno(-1);
  }
  // Sent last, and systemd reads in order.
  if (!comes_true([&] { return property(unit, "StatusText") == kLastWords; }))
    return trouble("systemd heard nothing");
  if (property(unit, "MainPID") != recorded(mount, "PID")) return succeeded("another main process");
  if (property(unit, "NFileDescriptorStore") != "0") return succeeded("descriptors kept by systemd");
  errno = EPERM;
  return by_errno(-1);
}

int abort_mount(const Outside& mount) {
  std::string program = mount.helper, option = "--abort", directory = mount.mount_point;
  char* const arguments[] = {program.data(), option.data(), directory.data(), nullptr};
  pid_t pid = 0;
  if (::posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments, environ) != 0) return -1;
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// What `deed`, which uses the mount, answers: 0 or errno. In a process of its own, for the mount is the
// rogue's.
template <class Deed>
Verdict bounded(const Outside& mount, std::string_view success, Deed deed) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return trouble("no pipe");
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  User user([&] {
    const int error = deed();
    return ::write(writing.get(), &error, sizeof error) == sizeof error ? 0 : 1;
  });
  writing.reset();
  if (!comes_true([&] { return user.has_ended(); })) {
    (void)abort_mount(mount);
    return trouble(kNoEnd);
  }
  int error = 0;
  if (::read(reading.get(), &error, sizeof error) != sizeof error) return trouble("no answer");
  errno = error;
  return by_errno(error == 0 ? 0 : -1, success);
}

Verdict syncfs_hangs_until_abort(const Outside& mount) {
  User user([&] {
    const UniqueFd root(::open(mount.mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return ::syncfs(root.get());
  });
  if (!waits_in(mount, FUSE_SYNCFS)) return trouble("SYNCFS never came");
  if (user.has_ended()) return trouble("syncfs did not wait");
  if (abort_mount(mount) != 0) return trouble("--abort failed");
  if (!comes_true([&] { return user.has_ended(); })) return trouble("--abort did not end it");
  return succeeded("waits until --abort");
}

Verdict statfs_hangs_until_abort(const Outside& mount) {
  User user([&] {
    struct statvfs status{};
    return ::statvfs(mount.mount_point.c_str(), &status);
  });
  if (!waits_in(mount, FUSE_STATFS)) return trouble("STATFS never came");
  if (user.has_ended()) return trouble("statfs did not wait");
  if (abort_mount(mount) != 0) return trouble("--abort failed");
  if (!comes_true([&] { return user.has_ended(); })) return trouble("--abort did not end it");
  return succeeded("waits until --abort");
}

Verdict keeps_nosuid_nodev_noexec(const Outside& mount) {
  return bounded(mount, "a mount without the user's flags", [&] {
    struct statvfs status{};
    if (::statvfs(mount.mount_point.c_str(), &status) != 0) return errno;
    constexpr unsigned long kAll = ST_NOSUID | ST_NODEV | ST_NOEXEC;
    return (status.f_flag & kAll) == kAll ? EPERM : 0;
  });
}

Verdict device_node_does_not_open(const Outside& mount) {
  return bounded(mount, "a device", [&] {
    const UniqueFd node(::open((mount.mount_point + "/device").c_str(), O_RDONLY | O_CLOEXEC));
    return node ? 0 : errno;
  });
}

Verdict cannot_be_written(const Outside& mount) {
  return bounded(mount, "a new file", [&] {
    const UniqueFd file(::open((mount.mount_point + "/new").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    return file ? 0 : errno;
  });
}

Verdict mount_ends(const Outside& mount) {
  const auto verdict = bounded(mount, "serves on", [&] {
    struct statvfs status{};
    return ::statvfs(mount.mount_point.c_str(), &status) == 0 ? 0 : errno;
  });
  if (verdict.words == kNoEnd) return verdict;
  if (abort_mount(mount) != 0) return trouble("--abort failed");
  return succeeded(verdict.kind == Verdict::Kind::kSucceeded ? "serves on" : "a mount that answers errors");
}

}  // namespace fuse4fs::rogue::outside
