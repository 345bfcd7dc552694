// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/server_child.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace fuse4fs::helper {
namespace {

constexpr int kFirstUnusedDescriptor = 4;
constexpr int kFailed = 127;

[[noreturn]] void give_up(const ChildPlan& plan, const char* step) {
  const char* const reason = ::strerrordesc_np(errno);
  const auto say = [&](const char* text) {
    if (text != nullptr) (void)!::write(plan.words, text, std::strlen(text));
  };
  say("the server cannot be started: ");
  say(step);
  say(": ");
  say(reason);
  say("\n");
  ::_exit(kFailed);
}

void wait_for_go(const ChildPlan& plan) {
  // Otherwise the end of the parent would not be the end of the pipe.
  ::close(plan.go_write_end);
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::read(plan.go, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) ::_exit(kFailed);
}

void reset_signals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void set_capabilities(const ChildPlan& plan, std::uint32_t held, std::uint32_t inheritable) {
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  data[0].permitted = data[0].effective = held;
  data[0].inheritable = inheritable;
  if (::syscall(SYS_capset, &header, data) != 0) give_up(plan, "its capabilities");
}

// CAP_SYS_ADMIN, ambient so that it outlives the exec, and nothing else; the bounding set is empty, so that
// what the server drops later no exec could bring back.
void keep_one_capability(const ChildPlan& plan) {
  constexpr std::uint32_t kAdmin = 1U << CAP_SYS_ADMIN;
  constexpr std::uint32_t kSetPcap = 1U << CAP_SETPCAP;
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) give_up(plan, "PR_SET_KEEPCAPS");
  if (::setresgid(plan.group, plan.group, plan.group) != 0) give_up(plan, "its group");
  if (::setresuid(plan.user, plan.user, plan.user) != 0) give_up(plan, "its user");
  // Inheritable while the bounding set still allows it; and the bounding set goes while CAP_SETPCAP is there.
  set_capabilities(plan, kAdmin | kSetPcap, kAdmin);
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0) != 0)
    give_up(plan, "its ambient capability");
  // By the kernel's list, not the header's: it may know more.
  for (int capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability)
    (void)::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  set_capabilities(plan, kAdmin, kAdmin);
}

void place_descriptors(const ChildPlan& plan) {
  const bool placed = ::dup2(plan.null, STDIN_FILENO) >= 0 && ::dup2(plan.null, STDOUT_FILENO) >= 0 &&
                      ::dup2(plan.words, STDERR_FILENO) >= 0 && ::dup2(plan.socket, 3) >= 0;
  if (!placed) give_up(plan, "its descriptors");
  // Whatever the caller of mount(8) left open is no business of the server's.
  if (::close_range(kFirstUnusedDescriptor, ~0U, CLOSE_RANGE_CLOEXEC) != 0) give_up(plan, "close_range");
}

}  // namespace

void become_server(const ChildPlan& plan) {
  wait_for_go(plan);
  reset_signals();
  ::setsid();
  ::umask(077);
  const rlimit no_core = {.rlim_cur = 0, .rlim_max = 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  if (::chdir("/") != 0) give_up(plan, "chdir to /");
  keep_one_capability(plan);
  place_descriptors(plan);
  ::syscall(SYS_execveat, plan.program, "", plan.arguments, plan.environment, AT_EMPTY_PATH);
  give_up(plan, "its program");
}

}  // namespace fuse4fs::helper
