// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/openat2.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace fuse4fs::helper {
namespace {

// Linux 6.5; older C libraries do not know it.
constexpr int kPeerPidFd = 77;

Result<std::vector<gid_t>> groups_of_peer(int socket) {
  std::vector<gid_t> groups(NGROUPS_MAX);
  auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0) return fail_last();
  groups.resize(length / sizeof(gid_t));
  return groups;
}

struct HeldProcess {
  UniqueFd handle;
  PeerHandle kind = PeerHandle::kOfConnection;
};

HeldProcess hold_peer(int socket, pid_t process, PeerHandle kind) {
  int handle = -1;
  socklen_t length = sizeof handle;
  if (kind == PeerHandle::kOfConnection) {
    if (::getsockopt(socket, SOL_SOCKET, kPeerPidFd, &handle, &length) == 0)
      return {.handle = UniqueFd(handle), .kind = kind};
    // Every other error means that the process has ended.
    if (errno != ENOPROTOOPT) return {};
  }
  return {.handle = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))),
          .kind = PeerHandle::kOfNumber};
}

// Whether the process that now has the number may be the one that connected.
bool may_be_peer(const ProcessIdentity& process, uid_t user) {
  const auto now = effective_user_of(process.pid);
  const auto own = identify(::getpid());
  return now && own && *now == user && process.start <= own->start;
}

bool is_alive(const UniqueFd& handle) {
  return ::syscall(SYS_pidfd_send_signal, handle.get(), 0, nullptr, 0) == 0;
}

bool same_file(const std::string& one, const std::string& other) {
  struct stat a = {};
  struct stat b = {};
  return ::stat(one.c_str(), &a) == 0 && ::stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

// A process that goes on with root's eyes where it should have a user's, or the other way round, is worse
// than one that ends.
void require(bool done) {
  if (!done) std::abort();
}

void see_as(uid_t user, gid_t group, const std::vector<gid_t>& groups) {
  require(::setgroups(groups.size(), groups.data()) == 0);
  ::setfsgid(group);
  ::setfsuid(user);
  // They return the value before, and have no other way of failing aloud.
  require(static_cast<gid_t>(::setfsgid(static_cast<gid_t>(-1))) == group);
  require(static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))) == user);
}

}  // namespace

Outcome<Peer> identify_peer(int socket, PeerHandle handle) {
  const auto unknown = [](Errno error) {
    return fail(error, fmt::format("who asks cannot be found out: {}", error.message()));
  };
  ucred credentials = {};
  socklen_t length = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
    return unknown(Errno::last());
  auto groups = groups_of_peer(socket);
  if (!groups) return unknown(groups.error());
  const HeldProcess held = hold_peer(socket, credentials.pid, handle);
  if (credentials.pid <= 0 || !held.handle) return unknown(Errno(ESRCH));
  const auto process = identify(credentials.pid);
  const bool is_here = same_file(fmt::format("/proc/{}/ns/mnt", credentials.pid), "/proc/self/ns/mnt");
  // Alive after all that: it was this process's, and not a later one's of the same number.
  const bool is_peer =
      process && (held.kind == PeerHandle::kOfConnection || may_be_peer(*process, credentials.uid));
  if (!is_peer || !is_alive(held.handle)) return unknown(Errno(ESRCH));
  if (!is_here)
    return fail(Errno(EPERM),
                "you are in another mount namespace (a container?): a mount made here is not seen there");
  return Peer{.person = {.user = credentials.uid, .group = credentials.gid, .groups = std::move(*groups)},
              .process = *process};
}

EyesOf::EyesOf(const Person& person) { see_as(person.user, person.group, person.groups); }

EyesOf::~EyesOf() { see_as(0, 0, {}); }

Result<UniqueFd> open_place(const std::string& path, int flags) {
  // It is a name as well: of a mount, for people and for programs.
  if (!path.starts_with('/') || std::filesystem::path(path).lexically_normal() != path) return fail(EINVAL);
  open_how how = {};
  how.flags = static_cast<std::uint64_t>(O_PATH | O_CLOEXEC | flags);
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
  if (!fd) return fail_last();
  return fd;
}

}  // namespace fuse4fs::helper
