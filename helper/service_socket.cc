// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/service_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cstring>

namespace fuse4fs::helper {
namespace {

constexpr int kConnectSeconds = 60;

}  // namespace

bool set_address(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  return true;
}

Result<UniqueFd> connect_to_service(const std::string& path) {
  sockaddr_un address = {};
  if (!set_address(path, address)) return fail(ENAMETOOLONG);
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return fail_last();
  if (!S_ISSOCK(status.st_mode)) return fail(ENOENT);
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail_last();
  // A listener that takes nobody: EAGAIN.
  const timeval patience{.tv_sec = kConnectSeconds, .tv_usec = 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_last();
  // Of the one who listens: with systemd's services systemd itself, not yet the server.
  ucred listener = {};
  socklen_t size = sizeof listener;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0) return fail_last();
  if (listener.uid != 0) return fail(EPERM);
  return socket;
}

}  // namespace fuse4fs::helper
