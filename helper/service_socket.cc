// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/service_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

namespace fuse4fs::helper {

Result<UniqueFd> connect_to_service(const std::string& directory, const std::string& type) {
  const std::string path = directory + "/" + type;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(ENAMETOOLONG);
  std::memcpy(address.sun_path, path.data(), path.size());
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return fail_last();
  if (!S_ISSOCK(status.st_mode)) return fail(ENOENT);
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return fail_last();
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail_last();
  return socket;
}

}  // namespace fuse4fs::helper
