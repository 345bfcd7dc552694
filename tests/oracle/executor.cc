// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/executor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace fuse4fs::oracle {
namespace {

struct Actor {
  uid_t uid;
  gid_t gid;
  std::array<gid_t, 1> groups;
  std::size_t group_count;
  mode_t umask;
};
constexpr std::array<Actor, kActors> kActorTable = {{
    {0, 0, {0}, 0, 022},
    {1000, 1000, {0}, 0, 022},
    {1001, 1001, {1000}, 1, 002},  // in 1000's group besides its own
    {1002, 1000, {0}, 0, 027},
}};

// The raw system calls: glibc's would change every thread of the process. The saved id stays root's, so that
// the way back is open; real and effective ids are the user's, so access(2) asks for it too.
void take_on(const Actor& actor) {
  const bool changed = ::syscall(SYS_setgroups, actor.group_count, actor.groups.data()) == 0 &&
                       ::syscall(SYS_setresgid, actor.gid, actor.gid, 0) == 0 &&
                       ::syscall(SYS_setresuid, actor.uid, actor.uid, 0) == 0;
  if (!changed) {
    std::perror("oracle: changing the user");
    std::abort();
  }
  ::umask(actor.umask);
}

void become_root() {
  const std::array<gid_t, 1> none{};
  if (::syscall(SYS_setresuid, 0, 0, 0) != 0 || ::syscall(SYS_setresgid, 0, 0, 0) != 0 ||
      ::syscall(SYS_setgroups, 0, none.data()) != 0) {
    std::perror("oracle: becoming root again");
    std::abort();
  }
  ::umask(022);
}

}  // namespace

std::string to_text(const Returned& returned) {
  std::string text = returned.error != 0
                         ? fmt::format("{} failed: {} ({})", returned.at.empty() ? "it" : returned.at,
                                       ::strerrorname_np(returned.error), ::strerror(returned.error))
                         : fmt::format("done, {}", returned.value);
  if (returned.data.empty()) return text;
  constexpr std::size_t kShown = 400;
  text += fmt::format(", {} bytes: ", returned.data.size());
  for (const char byte : returned.data.substr(0, kShown))
    text += byte == '\n'                ? "; "
            : byte >= ' ' && byte < 127 ? std::string(1, byte)
                                        : fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

Returned failed(std::string at) { return {.error = errno, .at = std::move(at)}; }
Returned done(std::int64_t value, std::string data) { return {.value = value, .data = std::move(data)}; }

Target::Target(const Step& step, const OpenFiles& files, int flags) {
  if (step.slot >= 0) {
    fd_ = files.slots[static_cast<std::size_t>(step.slot)].get();
    errno = EBADF;
    return;
  }
  opened_.reset(::open(step.path.c_str(), flags | O_CLOEXEC));
  fd_ = opened_.get();
}

Returned execute(const Step& step, OpenFiles& files) {
  Execute operation = name_operation(step.operation);
  if (operation == nullptr) operation = data_operation(step.operation);
  if (operation == nullptr) operation = attribute_operation(step.operation);
  if (operation == nullptr || ::fchdir(files.root.get()) != 0) {
    errno = ENOSYS;
    return failed("this step");
  }
  take_on(kActorTable[static_cast<std::size_t>(step.who)]);
  Returned returned = operation(step, files);
  become_root();
  if (::chdir("/") != 0) return failed("chdir(/)");
  return returned;
}

}  // namespace fuse4fs::oracle
