// SPDX-License-Identifier: GPL-2.0-or-later
// The socket on which systemd (or whoever manages services) starts a server for each connection.
#pragma once

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

inline constexpr char kServiceDirectory[] = "/run/filesystems";

// ENOENT if there is no such socket, ECONNREFUSED if nobody listens.
Result<UniqueFd> connect_to_service(const std::string& directory, const std::string& type);

}  // namespace fuse4fs::helper
