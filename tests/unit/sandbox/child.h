// SPDX-License-Identifier: GPL-2.0-or-later
// A process to put into the sandbox, which nobody leaves: started as the helper starts the server, one for
// each test.
//
// In the child a failed REQUIRE prints the condition and ends it with status 1; gtest's own checks belong to
// the parent. Root only, as the helper: without it a test is skipped.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "server/sandbox/sandbox.h"

namespace fuse4fs::sandbox::test {

inline constexpr uid_t kNobody = 65534;

// What the process has when its body starts. Its user is kNobody but for kRoot.
enum class Start {
  kOwnNamespaces,           // fresh user, mount, pid, net, ipc and uts namespaces and all their capabilities
  kOwnNamespacesAdminOnly,  // the same with CAP_SYS_ADMIN alone, as the helper leaves it
  kHostAdmin,               // the host's namespaces, and the host's own CAP_SYS_ADMIN
  kNoCapability,            // the host's namespaces without any right, as under systemd
  kRoot,                    // as by hand
};

#define REQUIRE(condition) \
  ((condition) ? static_cast<void>(0) : ::fuse4fs::sandbox::test::end_child(#condition, __FILE__, __LINE__))
[[noreturn]] void end_child(const char* condition, const char* file, int line);

// sandbox::enter() or a failed test.
Report enter_or_end(Options options);

class Child {
 public:
  // Runs body in the child, which then ends with status 0.
  Child(Start start, const std::function<void()>& body);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  // As waitpid(2).
  int wait();

 private:
  pid_t pid_ = -1;
  bool waited_ = false;
};

// For messages: "status 1", "signal 31 (Bad system call)".
std::string describe(int wait_status);
bool was_clean(int wait_status);
bool was_killed_by_filter(int wait_status);

// Connected sockets, one end for each side.
struct SocketPair {
  SocketPair();
  UniqueFd parent, child;
};

// A loop device over a file of its own; both go when the last descriptor is closed.
class LoopDevice {
 public:
  static constexpr off_t kSize = 8 << 20;
  LoopDevice();
  [[nodiscard]] int fd() const { return device_.get(); }
  [[nodiscard]] int backing_file() const { return file_.get(); }

 private:
  UniqueFd file_;
  UniqueFd device_;
};

}  // namespace fuse4fs::sandbox::test
