// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

using testing::TemporaryDirectory;

constexpr uid_t kUser = 65534;

// A process of this user with this number, in a pid namespace where nobody else takes one.
pid_t start_as(uid_t user, pid_t number, const std::function<void()>& work) {
  clone_args arguments = {};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uintptr_t>(&number);
  arguments.set_tid_size = 1;
  const auto process = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (process != 0) return process;
  // Nothing but system calls: a sanitizer's own thread, and what it may hold, is not here.
  if (::syscall(SYS_setgroups, 0, nullptr) != 0 || ::syscall(SYS_setresgid, user, user, user) != 0 ||
      ::syscall(SYS_setresuid, user, user, user) != 0)
    ::_exit(1);
  work();
  ::_exit(0);
}

void end(pid_t process) {
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
}

// Runs in the namespace's first process; what it returns is the number of the first step that went wrong.
class Scene {
 public:
  explicit Scene(const std::string& path) {
    address_.sun_family = AF_UNIX;
    std::strncpy(address_.sun_path, path.c_str(), sizeof address_.sun_path - 1);
    listening_ = UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    (void)::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_);
    (void)::chmod(path.c_str(), 0666);
    (void)::listen(listening_.get(), 4);
  }

  int play() {
    constexpr pid_t kNumber = 1000;
    pid_t peer = start_as(kUser, kNumber, [this] { connect_and_stay(); });
    UniqueFd connection = accept();
    if (peer != kNumber || !connection) return 1;
    // It is there, and was before whoever judges.
    for (const PeerHandle handle : {PeerHandle::kOfConnection, PeerHandle::kOfNumber}) {
      if (judged(connection.get(), handle) != kUser) return 2;
    }
    end(peer);
    if (judged(connection.get(), PeerHandle::kOfConnection) ||
        judged(connection.get(), PeerHandle::kOfNumber))
      return 3;
    // Its number is another user's by now, and older than whoever judges.
    pid_t later = start_as(0, kNumber, [] { ::pause(); });
    if (later != kNumber) return 4;
    if (judged(connection.get(), PeerHandle::kOfNumber)) return 5;
    if (judged(connection.get(), PeerHandle::kOfConnection)) return 6;
    end(later);

    // Its number is a later process's of the same user.
    peer = start_as(kUser, kNumber, [this] { connect_and_stay(); });
    connection = accept();
    const auto judge_after = [&] {
      end(peer);
      // The clock of these times ticks a hundred times a second.
      const auto own = identify(::getpid());
      do {
        later = start_as(kUser, kNumber, [] { ::pause(); });
        if (later != kNumber || !own) return true;
        while (effective_user_of(later) != kUser) ::sched_yield();
        const auto started = identify(later);
        if (started && started->start > own->start) break;
        end(later);
      } while (true);
      const bool taken_for_peer = identify_peer(connection.get(), PeerHandle::kOfNumber).has_value();
      end(later);
      return taken_for_peer;
    };
    return judge_after() ? 7 : 0;
  }

 private:
  void connect_and_stay() const {
    const long socket = ::syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (::syscall(SYS_connect, socket, &address_, sizeof address_) != 0) return;
    ::pause();
  }
  [[nodiscard]] UniqueFd accept() const {
    return UniqueFd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  // By a process that was started for the connection. Nothing if it is not taken for anybody.
  static std::optional<uid_t> judged(int connection, PeerHandle handle) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return std::nullopt;
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    const pid_t judge = ::fork();
    if (judge == 0) {
      const auto peer = identify_peer(connection, handle);
      if (peer) (void)!::write(writing.get(), &peer->person.user, sizeof peer->person.user);
      ::_exit(0);
    }
    writing.reset();
    uid_t user = 0;
    const bool known = ::read(reading.get(), &user, sizeof user) == sizeof user;
    ::waitpid(judge, nullptr, 0);
    return known ? std::optional(user) : std::nullopt;
  }

  sockaddr_un address_ = {};
  UniqueFd listening_;
};

TEST(Peer, ANumberThatWasGivenAgainIsNobody) {
  if (::getuid() != 0) GTEST_SKIP() << "SKIPPED: needs root";
  const TemporaryDirectory directory;
  const std::string path = directory.path("socket");
  const pid_t outer = ::fork();
  if (outer == 0) {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      ::_exit(101);
    const pid_t first = ::fork();
    if (first == 0) {
      if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) ::_exit(102);
      ::_exit(Scene(path).play());
    }
    int status = 0;
    ::waitpid(first, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 103);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(outer, &status, 0), outer);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "the step of Scene::play() that went wrong";
}

}  // namespace
}  // namespace fuse4fs::helper
