// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/datagram_sockets.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>

#include "helper/service_socket.h"

namespace fuse4fs::helper {
namespace {

constexpr char kOwnNetwork[] = "/proc/thread-self/ns/net";

}  // namespace

Result<UniqueFd> DatagramSockets::make_socket() {
  const UniqueFd home(::open(kOwnNetwork, O_RDONLY | O_CLOEXEC));
  if (!home) return fail_last();
  if (empty_network_) {
    if (::setns(empty_network_.get(), CLONE_NEWNET) != 0) return fail_last();
  } else {
    if (::unshare(CLONE_NEWNET) != 0) return fail_last();
    empty_network_.reset(::open(kOwnNetwork, O_RDONLY | O_CLOEXEC));
  }
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const Errno error = Errno::last();
  // Nothing but a lost capability can make this fail.
  if (::setns(home.get(), CLONE_NEWNET) != 0) std::abort();
  if (!socket) return fail(error);
  return socket;
}

Result<UniqueFd> DatagramSockets::connect(const std::string& path) {
  sockaddr_un address = {};
  if (!set_address(path, address)) return fail(ENAMETOOLONG);
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return fail_last();
  if (!S_ISSOCK(status.st_mode) || status.st_uid != 0) return fail(ENOENT);
  ASSIGN_OR_RETURN(UniqueFd socket, make_socket());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::shutdown(socket.get(), SHUT_RD) != 0)
    return fail_last();
  return socket;
}

}  // namespace fuse4fs::helper
