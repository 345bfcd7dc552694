// SPDX-License-Identifier: GPL-2.0-or-later
// The socket on which systemd (or whoever manages services) starts a server for each connection.
#pragma once

#include <sys/un.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

inline constexpr char kServiceDirectory[] = "/run/filesystems";

// ENOENT if there is no such socket, ECONNREFUSED if nobody listens, EPERM if it is not root who does: the
// device would be anybody's.
Result<UniqueFd> connect_to_service(const std::string& path);

// False if the path is too long for one.
bool set_address(const std::string& path, sockaddr_un& address);

}  // namespace fuse4fs::helper
