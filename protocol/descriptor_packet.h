// SPDX-License-Identifier: GPL-2.0-or-later
// One packet with descriptors on it (SCM_RIGHTS, unix(7)).
#pragma once

#include <sys/types.h>

#include <span>

#include "protocol/messages.h"

namespace fuse4fs::protocol {

// What the kernel lets one packet carry.
inline constexpr std::size_t kMostDescriptors = 253;

// As sendmsg(2): the bytes sent, or -1 and errno; EINVAL for more descriptors than that. They are borrowed.
// `flags`: MSG_*. Takes no memory and no lock.
ssize_t send_with_descriptors(int socket, ByteView packet, std::span<const int> descriptors, int flags);

}  // namespace fuse4fs::protocol
