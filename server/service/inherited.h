// SPDX-License-Identifier: GPL-2.0-or-later
// The descriptors that came with the start, as sd_listen_fds(3) describes them.
//
// Of a service with Accept=yes it is one: the connection. Restarted, such a service finds the socket that
// systemd listens on as well, or nothing else. Whoever holds that could take the connections of others: it is
// closed before anything else is done. (accept is not among the server's system calls either.)
#pragma once

#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::service {

inline constexpr int kFirstInherited = 3;

// How many, by LISTEN_FDS and LISTEN_PID of the environment. Empty if they are not there, not for the process
// `own`, or no numbers: then this is no service.
std::optional<int> inherited_count(const char* listen_fds, const char* listen_pid, long own);

// The connection out of `count` descriptors from kFirstInherited on. All others are closed, and whatever is
// open behind them. ENOTCONN without one.
Outcome<UniqueFd> take_connection(int count);

}  // namespace fuse4fs::service
