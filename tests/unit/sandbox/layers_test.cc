// SPDX-License-Identifier: GPL-2.0-or-later
// What the layers under the filter deny by themselves: each step is taken alone.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "child.h"
#include "server/sandbox/landlock_abi.h"
#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::test {
namespace {

template <class T>
T value_or_end(Outcome<T> outcome) {
  if (!outcome) end_child(outcome.error().message.c_str(), __FILE__, __LINE__);
  if constexpr (!std::is_void_v<T>) return *outcome;
}

#define REQUIRE_ERROR(expression, error) REQUIRE((expression) < 0 && errno == (error))

void expect_clean(Start start, const std::function<void()>& body) {
  Child child(start, body);
  const int status = child.wait();
  EXPECT_TRUE(was_clean(status)) << describe(status);
}

// All ways in which a helper or a hand may leave CAP_SYS_ADMIN.
class EmptyRoot : public testing::TestWithParam<Start> {};
INSTANTIATE_TEST_SUITE_P(Sandbox, EmptyRoot,
                         testing::Values(Start::kOwnNamespaces, Start::kOwnNamespacesAdminOnly,
                                         Start::kHostAdmin));

TEST_P(EmptyRoot, HasNothingInIt) {
  expect_clean(GetParam(), [] {
    REQUIRE(::access("/etc/passwd", R_OK) == 0);
    REQUIRE(value_or_end(internal::make_root_empty()));
    REQUIRE_ERROR(::open("/etc/passwd", O_RDONLY), ENOENT);
    REQUIRE_ERROR(::access("/proc", F_OK), ENOENT);
    REQUIRE_ERROR(::access("/..", W_OK), EROFS);
    REQUIRE_ERROR(::open("/x", O_CREAT | O_WRONLY, 0600), EROFS);
    REQUIRE_ERROR(::mkdir("/x", 0700), EROFS);
    std::array<char, 100> here{};
    REQUIRE(::getcwd(here.data(), here.size()) != nullptr && std::strcmp(here.data(), "/") == 0);
    DIR* root = ::opendir("/");
    REQUIRE(root != nullptr);
    int entries = 0;
    while (::readdir(root) != nullptr) ++entries;
    REQUIRE(entries == 2);  // . and ..
  });
  // Ours is as it was, also where the child had the capability for our own namespace.
  EXPECT_EQ(::access("/etc/passwd", R_OK), 0);
  EXPECT_EQ(::access("/proc/self", F_OK), 0);
}

TEST(SandboxLayers, LeaveTheRootAloneWithoutTheCapability) {
  expect_clean(Start::kNoCapability, [] {
    REQUIRE(!value_or_end(internal::make_root_empty()));
    REQUIRE(::access("/etc/passwd", R_OK) == 0);
  });
}

TEST(SandboxLayers, CloseAllOtherDescriptors) {
  expect_clean(Start::kNoCapability, [] {
    for (int fd : {5, 6, 7, 20, 500}) REQUIRE(::dup2(STDERR_FILENO, fd) == fd);
    const std::array kept{20, 6};
    value_or_end(internal::close_other_descriptors(kept));
    for (int fd : {0, 1, 2, 6, 20}) REQUIRE(::fcntl(fd, F_GETFD) >= 0);
    for (int fd : {3, 4, 5, 7, 8, 19, 21, 500}) REQUIRE_ERROR(::fcntl(fd, F_GETFD), EBADF);
  });
}

TEST(SandboxLayers, BlindStandardInputAndOutput) {
  expect_clean(Start::kNoCapability, [] {
    const int first_free = ::fcntl(STDERR_FILENO, F_DUPFD, 3);
    ::close(first_free);
    // As after a start with closed descriptors.
    ::close(STDIN_FILENO);
    value_or_end(internal::blind_standard_descriptors({}));
    char byte = 0;
    REQUIRE_ERROR(::read(STDIN_FILENO, &byte, 1), EBADF);
    REQUIRE_ERROR(::write(STDOUT_FILENO, &byte, 1), EBADF);
    REQUIRE((::fcntl(STDIN_FILENO, F_GETFL) & O_PATH) != 0);
    REQUIRE(::fcntl(STDERR_FILENO, F_DUPFD, 3) == first_free);
  });
}

TEST(SandboxLayers, LeaveAKeptStandardDescriptor) {
  SocketPair sockets;
  expect_clean(Start::kNoCapability, [&] {
    REQUIRE(::dup2(sockets.child.get(), STDIN_FILENO) == STDIN_FILENO);
    const std::array kept{STDIN_FILENO};
    value_or_end(internal::blind_standard_descriptors(kept));
    REQUIRE(::write(STDIN_FILENO, "x", 1) == 1);
  });
}

TEST(SandboxLayers, LowerLimits) {
  expect_clean(Start::kNoCapability, [] {
    const std::array kept{9};
    value_or_end(internal::lower_limits(kept));
    rlimit limit{};
    for (auto resource : {RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE}) {
      REQUIRE(::getrlimit(resource, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 0);
    }
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max == 74 && limit.rlim_cur == 74);
    REQUIRE(::prctl(PR_GET_DUMPABLE) == 0);
    value_or_end(internal::forbid_new_threads());
    REQUIRE_ERROR(::fork(), EAGAIN);
  });
}

#ifndef FUSE4FS_SANITIZED  // the sanitizers map terabytes of shadow
TEST(SandboxLayers, LimitTheMemory) {
  expect_clean(Start::kNoCapability, [] {
    constexpr std::size_t kLimit = std::size_t{256} << 20;
    value_or_end(internal::limit_memory(kLimit));
    const auto map = [](std::size_t bytes, int protection, int flags) {
      return ::mmap(nullptr, bytes, protection, flags | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
    };
    REQUIRE(map(kLimit / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE));
    REQUIRE(!map(kLimit / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE) && errno == ENOMEM);
    // What is only reserved, or not counted as data, has an end too.
    int reserved = 0;
    while (reserved < 100 && map(kLimit, PROT_READ, MAP_SHARED)) ++reserved;
    REQUIRE(reserved >= 1 && reserved <= 8 && errno == ENOMEM);
  });
}
#endif

// The log may be written behind its end, up to the limit: neither erased nor grown until the disk is full.
TEST(SandboxLayers, LimitTheLogButNotTheDevice) {
  LoopDevice device;
  const UniqueFd log(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_APPEND, 0600));
  ASSERT_TRUE(log);
  expect_clean(Start::kNoCapability, [&] {
    constexpr std::size_t kLimit = 8192;
    value_or_end(internal::limit_files(kLimit));
    ::signal(SIGXFSZ, SIG_IGN);
    std::array<char, 4096> block{};
    REQUIRE(::pwrite(log.get(), "old", 3, 0) == 3);
    REQUIRE(::pwrite(log.get(), "new", 3, 0) == 3);  // behind it all the same
    REQUIRE(::pread(log.get(), block.data(), block.size(), 0) == 6);
    REQUIRE(std::strcmp(block.data(), "oldnew") == 0);
    REQUIRE(::write(log.get(), block.data(), block.size()) == 4096);
    REQUIRE(::write(log.get(), block.data(), block.size()) == kLimit - 4096 - 6);
    REQUIRE_ERROR(::write(log.get(), block.data(), block.size()), EFBIG);
    REQUIRE_ERROR(::pwrite(log.get(), block.data(), block.size(), 1 << 20), EFBIG);
    REQUIRE(::pwrite(device.fd(), block.data(), block.size(), LoopDevice::kSize - 4096) == 4096);
    REQUIRE(::fdatasync(device.fd()) == 0);
  });
}

TEST(SandboxLayers, DropEveryCapability) {
  for (const Start start : {Start::kOwnNamespaces, Start::kOwnNamespacesAdminOnly, Start::kHostAdmin}) {
    expect_clean(start, [start] {
      REQUIRE(::unshare(CLONE_NEWNS) == 0);
      // Only whoever has CAP_SETPCAP can empty the bounding set.
      REQUIRE(value_or_end(internal::drop_privileges()) == (start == Start::kOwnNamespaces));
      for (int capability = 0; capability <= CAP_LAST_CAP; ++capability) {
        REQUIRE(!internal::has_effective_capability(capability));
        REQUIRE(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) == 0);
        if (start == Start::kOwnNamespaces) REQUIRE(::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 0);
      }
      REQUIRE(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
      if (start == Start::kOwnNamespaces) {
        REQUIRE((::prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & SECBIT_NOROOT_LOCKED) != 0);
      }
      REQUIRE_ERROR(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0), EPERM);
      REQUIRE_ERROR(::unshare(CLONE_NEWNS), EPERM);
      REQUIRE_ERROR(::mount("x", "/tmp", "tmpfs", 0, nullptr), EPERM);
      REQUIRE_ERROR(::sethostname("x", 1), EPERM);
      REQUIRE(::setuid(0) < 0);
    });
  }
}

TEST(SandboxLayers, LandlockDeniesNames) {
  expect_clean(Start::kNoCapability, [] {
    const int before = ::open("/etc/passwd", O_RDONLY);
    REQUIRE(before >= 0);
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(value_or_end(internal::forbid_by_landlock()) > 0);
    REQUIRE_ERROR(::open("/etc/passwd", O_RDONLY), EACCES);
    REQUIRE_ERROR(::open("/dev/null", O_WRONLY), EACCES);
    REQUIRE_ERROR(::open("/tmp", O_RDONLY | O_DIRECTORY), EACCES);
    REQUIRE_ERROR(::mkdir("/tmp/sandbox-landlock", 0700), EACCES);
    REQUIRE_ERROR(::execl("/bin/true", "true", nullptr), EACCES);
    char byte = 0;
    REQUIRE(::read(before, &byte, 1) == 1);
  });
}

int landlock_abi() {
  int abi = 0;
  SocketPair sockets;
  Child child(Start::kNoCapability, [&] {
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    const int found = value_or_end(internal::forbid_by_landlock());
    REQUIRE(::write(sockets.child.get(), &found, sizeof(found)) == sizeof(found));
  });
  if (::read(sockets.parent.get(), &abi, sizeof(abi)) != sizeof(abi)) ADD_FAILURE();
  child.wait();
  return abi;
}

TEST(SandboxLayers, LandlockDeniesTheNetwork) {
  if (landlock_abi() < 4) GTEST_SKIP() << "Landlock knows the network since ABI 4 (Linux 6.7)";
  expect_clean(Start::kNoCapability, [] {
    const int before = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in nowhere{
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    const auto* address = reinterpret_cast<const sockaddr*>(&nowhere);
    REQUIRE_ERROR(::connect(before, address, sizeof(nowhere)), ECONNREFUSED);
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    value_or_end(internal::forbid_by_landlock());
    REQUIRE_ERROR(::connect(before, address, sizeof(nowhere)), EACCES);
    nowhere.sin_port = htons(20'000);
    REQUIRE_ERROR(::bind(before, address, sizeof(nowhere)), EACCES);
  });
}

TEST(SandboxLayers, LandlockDeniesSignalsAndAbstractSockets) {
  if (landlock_abi() < 6) GTEST_SKIP() << "Landlock knows scopes since ABI 6 (Linux 6.12)";
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  socklen_t length = sizeof(sa_family_t);  // the kernel chooses an abstract name
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  length = sizeof(name);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length), 0);
  const auto* address = reinterpret_cast<const sockaddr*>(&name);

  // Of the same user: without Landlock they could signal each other.
  SocketPair gate;
  Child other(Start::kNoCapability, [&] {
    REQUIRE(::write(gate.child.get(), "r", 1) == 1);
    ::pause();
  });
  char ready = 0;
  ASSERT_EQ(::read(gate.parent.get(), &ready, 1), 1);
  expect_clean(Start::kNoCapability, [&] {
    const int first = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const int second = ::socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(::connect(first, address, length) == 0);
    REQUIRE(::kill(other.pid(), 0) == 0);
    REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    value_or_end(internal::forbid_by_landlock());
    REQUIRE_ERROR(::connect(second, address, length), EPERM);
    REQUIRE_ERROR(::kill(other.pid(), 0), EPERM);
  });
}

}  // namespace
}  // namespace fuse4fs::sandbox::test
