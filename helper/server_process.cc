// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/server_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sched.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/server_child.h"

namespace fuse4fs::helper {
namespace {

constexpr char kServerUser[] = "fuse4fs";
constexpr unsigned kNobody = 65534;
// The child's descriptors are put above those that the server gets, so that placing one never overwrites
// another.
constexpr int kLeastDescriptor = 10;

// From the most contained on; a kernel or a container that lacks one kind may have the next. The mount
// namespace is not among them: the server makes its own after the exec (server/sandbox). Made here, the
// program and its libraries would be mapped from the copied tree and hold it, and with it every mount of the
// caller's.
#ifdef __SANITIZE_THREAD__
// The thread sanitizer has a thread before main, which the server's own unshare does not reach. In the
// caller's mount namespace it would keep the server's own mount alive, and the kernel deadlocks when such a
// server is killed: the last thread unmounts on its way out, and waits for the answer of a server whose
// descriptors it has yet to close.
constexpr std::uint64_t kSanitizersNamespace = CLONE_NEWNS;
#else
constexpr std::uint64_t kSanitizersNamespace = 0;
#endif
constexpr std::uint64_t kNamespaces[] = {
    kSanitizersNamespace | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
    CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
    CLONE_NEWPID,
};

std::string names_of(std::uint64_t namespaces) {
  struct Kind {
    std::uint64_t flag;
    std::string_view name;
  };
  constexpr Kind kKinds[] = {{CLONE_NEWUSER, "user"},
                             {CLONE_NEWPID, "pid"},
                             {CLONE_NEWNET, "net"},
                             {CLONE_NEWIPC, "ipc"},
                             {CLONE_NEWUTS, "uts"}};
  std::string names;
  for (const auto& [flag, name] : kKinds)
    if ((namespaces & flag) != 0) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  return names;
}

struct Child {
  UniqueFd process;
  int pid = 0;
};

Result<void> move_up(UniqueFd& fd) {
  if (!fd) return fail_last();
  fd.reset(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kLeastDescriptor));
  if (!fd) return fail_last();
  return {};
}

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_last();
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  RETURN_IF_ERROR(move_up(pipe.read_end));
  RETURN_IF_ERROR(move_up(pipe.write_end));
  return pipe;
}

Result<Child> spawn(const ChildPlan& plan) {
  int process = -1;
  clone_args arguments = {};
  arguments.flags = plan.namespaces | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uintptr_t>(&process);
  arguments.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return fail_last();
  if (pid == 0) become_server(plan);
  return Child{UniqueFd(process), static_cast<int>(pid)};
}

Result<void> write_file(const std::string& path, std::string_view text) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_last();
  return {};
}

// Exactly one user and one group exist in the server's namespace, and nobody can come by another.
Result<void> map_user(const Child& child, const ChildPlan& plan) {
  const std::string directory = fmt::format("/proc/{}/", child.pid);
  RETURN_IF_ERROR(write_file(directory + "uid_map", fmt::format("{} {} 1", plan.user, plan.user)));
  RETURN_IF_ERROR(write_file(directory + "setgroups", "deny"));
  return write_file(directory + "gid_map", fmt::format("{} {} 1", plan.group, plan.group));
}

void kill_and_reap(int process) {
  (void)::syscall(SYS_pidfd_send_signal, process, SIGKILL, nullptr, 0);
  siginfo_t info = {};
  while (::waitid(P_PIDFD, static_cast<id_t>(process), &info, WEXITED) != 0 && errno == EINTR) {
  }
}

std::vector<std::string> environment() {
  // The server writes its title (device and mount point) over its arguments and environment: it needs the
  // room.
  constexpr std::size_t kTitleRoom = 512;
  // In its pid namespace, which it always has, it is the first process.
  std::vector<std::string> variables = {"LISTEN_FDS=1", "LISTEN_PID=1",
                                        "TITLE_ROOM=" + std::string(kTitleRoom, '.')};
#ifdef FUSE4FS_SANITIZED
  for (const char* const name : {"ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"})
    if (const char* const value = std::getenv(name)) variables.push_back(fmt::format("{}={}", name, value));
#endif
  return variables;
}

std::unexpected<Failure> no_server(Errno error) {
  return fail(error, fmt::format("the server's process cannot be made: {}", error.message()));
}

}  // namespace

Outcome<ServerProcess> ServerProcess::start(const std::string& program) {
  UniqueFd executable(::open(program.c_str(), O_PATH | O_CLOEXEC));
  if (!executable) {
    return fail(Errno::last(),
                fmt::format("the server {} cannot be started: {}", quoted(program), Errno::last().message()));
  }
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY));
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) return no_server(Errno::last());
  UniqueFd ours(sockets[0]);
  UniqueFd theirs(sockets[1]);
  for (UniqueFd* const fd : {&executable, &null, &ours, &theirs})
    if (const auto moved = move_up(*fd); !moved) return no_server(moved.error());
  auto words = make_pipe();
  if (!words) return no_server(words.error());
  if (::fcntl(words->read_end.get(), F_SETFL, O_NONBLOCK) != 0) return no_server(Errno::last());

  std::vector<std::string> variables = environment();
  std::vector<char*> variable_pointers;
  variable_pointers.reserve(variables.size() + 1);
  for (std::string& variable : variables) variable_pointers.push_back(variable.data());
  variable_pointers.push_back(nullptr);
  std::string name = "fuse4fs";
  char* const arguments[] = {name.data(), nullptr};
  ChildPlan plan{.user = kNobody,
                 .group = kNobody,
                 .null = null.get(),
                 .words = words->write_end.get(),
                 .socket = theirs.get(),
                 .program = executable.get(),
                 .arguments = arguments,
                 .environment = variable_pointers.data()};
  if (const passwd* const user = ::getpwnam(kServerUser); user != nullptr && user->pw_uid != 0) {
    plan.user = user->pw_uid;
    plan.group = user->pw_gid;
  }

  Errno last_error(EPERM);
  for (const std::uint64_t namespaces : kNamespaces) {
    plan.namespaces = namespaces;
    // A new one each time: a child that was given up must not read the next one's byte.
    auto go = make_pipe();
    if (!go) return no_server(go.error());
    plan.go = go->read_end.get();
    plan.go_write_end = go->write_end.get();
    auto child = spawn(plan);
    Result<void> started = child ? Result<void>() : fail(child.error());
    if (started && (namespaces & CLONE_NEWUSER) != 0) started = map_user(*child, plan);
    if (started && ::write(go->write_end.get(), "g", 1) != 1) started = fail_last();
    if (started) {
      if (namespaces != kNamespaces[0]) {
        log_warning("the server is less contained than it should be: it has no {} namespace of its own ({})",
                    names_of(kNamespaces[0] & ~namespaces), last_error.message());
      }
      return ServerProcess(std::move(child->process), child->pid, std::move(ours),
                           std::move(words->read_end));
    }
    last_error = started.error();
    if (child) kill_and_reap(child->process.get());
  }
  return no_server(last_error);
}

ServerProcess::~ServerProcess() {
  if (process_) kill_and_reap(process_.get());
}

std::string ServerProcess::end() {
  if (!process_) return {};
  // It may be on its way out: its socket closes a moment before its status can be had.
  constexpr int kMilliseconds = 500;
  pollfd wait{.fd = process_.get(), .events = POLLIN, .revents = 0};
  const bool ended = ::poll(&wait, 1, kMilliseconds) == 1;
  siginfo_t info = {};
  const bool known =
      ended && ::waitid(P_PIDFD, static_cast<id_t>(process_.get()), &info, WEXITED | WNOWAIT) == 0;
  kill_and_reap(process_.get());
  process_.reset();
  if (!known) return {};
  if (info.si_code == CLD_EXITED) return fmt::format("the server ended with status {}", info.si_status);
  return fmt::format("the server was ended by signal {} ({})", info.si_status, ::strsignal(info.si_status));
}

Outcome<std::string> server_program() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0 || length == static_cast<ssize_t>(path.size()))
    return fail(Errno(ENOENT), "/proc/self/exe cannot be read: the server is not found without /proc");
  const std::string_view own(path.data(), static_cast<std::size_t>(length));
  const std::string_view directory = own.substr(0, own.rfind('/'));
  return fmt::format("{}/libexec/fuse4fs/fuse4fs", directory.substr(0, directory.rfind('/')));
}

}  // namespace fuse4fs::helper
