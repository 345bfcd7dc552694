// SPDX-License-Identifier: GPL-2.0-or-later
#include "child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace fuse4fs::sandbox::test {
namespace {

constexpr int kFreshNamespaces =
    CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

int namespaces(Start start) {
  switch (start) {
    case Start::kOwnNamespaces:
    case Start::kOwnNamespacesAdminOnly:
      return kFreshNamespaces;
    default:
      return 0;
  }
}

void keep_only(std::uint64_t capabilities) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {};
  for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; ++i) {
    sets[i].permitted = sets[i].effective = sets[i].inheritable =
        static_cast<std::uint32_t>(capabilities >> (32 * i));
  }
  REQUIRE(::syscall(SYS_capset, &header, sets) == 0);
}

void become(Start start) {
  constexpr std::uint64_t kAdmin = std::uint64_t{1} << CAP_SYS_ADMIN;
  if (start == Start::kRoot) return;
  REQUIRE(::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
  if (start == Start::kHostAdmin || start == Start::kNoCapability)
    REQUIRE(::syscall(SYS_setgroups, 0, nullptr) == 0);
  REQUIRE(::syscall(SYS_setresgid, kNobody, kNobody, kNobody) == 0);
  REQUIRE(::syscall(SYS_setresuid, kNobody, kNobody, kNobody) == 0);
  if (start == Start::kOwnNamespacesAdminOnly || start == Start::kHostAdmin) {
    keep_only(kAdmin);
    REQUIRE(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) == 0);
  }
  if (start == Start::kNoCapability) keep_only(0);
  // As after the exec that the server's start has and this one has not.
  REQUIRE(::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.flush();
  if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace

void end_child(const char* condition, const char* file, int line) {
  const std::string words = fmt::format("{}:{}: in the child: {} (errno {})\n", file, line, condition, errno);
  static_cast<void>(!::write(STDERR_FILENO, words.data(), words.size()));
  ::_exit(1);
}

Report enter_or_end(Options options) {
  auto report = enter(options);
  if (!report) end_child(report.error().message.c_str(), __FILE__, __LINE__);
  return *report;
}

Child::Child(Start start, const std::function<void()>& body) {
  SocketPair gate;
  // Raw, as ThreadSanitizer's fork starts a thread in the child, and a process with threads may make no
  // namespaces.
  pid_ = static_cast<pid_t>(
      ::syscall(SYS_clone, SIGCHLD | namespaces(start), nullptr, nullptr, nullptr, nullptr));
  if (pid_ < 0) throw std::runtime_error(fmt::format("clone: {}", std::strerror(errno)));
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    char byte = 0;
    gate.parent.reset();
    REQUIRE(::read(gate.child.get(), &byte, 1) == 1);
    gate.child.reset();
    become(start);
    body();
    ::_exit(0);
  }
  if (namespaces(start) != 0) {
    const std::string one = fmt::format("{} {} 1\n", kNobody, kNobody);
    write_text(fmt::format("/proc/{}/gid_map", pid_), one);
    write_text(fmt::format("/proc/{}/uid_map", pid_), one);
  }
  if (::write(gate.parent.get(), "g", 1) != 1) throw std::runtime_error("the child is gone");
}

int Child::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  waited_ = true;
  return status;
}

Child::~Child() {
  if (waited_ || pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  wait();
}

std::string describe(int wait_status) {
  if (WIFEXITED(wait_status)) return fmt::format("status {}", WEXITSTATUS(wait_status));
  return fmt::format("signal {} ({})", WTERMSIG(wait_status), ::strsignal(WTERMSIG(wait_status)));
}

bool was_clean(int wait_status) { return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0; }

bool was_killed_by_filter(int wait_status) {
  return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS;
}

SocketPair::SocketPair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::runtime_error("socketpair");
  parent.reset(ends[0]);
  child.reset(ends[1]);
}

LoopDevice::LoopDevice() : file_(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) {
  if (!file_ || ::ftruncate(file_.get(), kSize) != 0) throw std::runtime_error("no temporary file");
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  // Others may take the free device between the two calls.
  for (int attempt = 0; attempt < 50; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    UniqueFd device(::open(fmt::format("/dev/loop{}", number).c_str(), O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(file_.get());
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    const int writable = 0;
    // The read-only switch outlives whoever had the loop device before.
    if (device && ::ioctl(device.get(), LOOP_CONFIGURE, &config) == 0 &&
        ::ioctl(device.get(), BLKROSET, &writable) == 0) {
      device_ = std::move(device);
      return;
    }
  }
  throw std::runtime_error("no free loop device");
}

}  // namespace fuse4fs::sandbox::test
