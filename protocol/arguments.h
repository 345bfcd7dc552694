// SPDX-License-Identifier: GPL-2.0-or-later
// The command line that the helper hands to the server, as a memfd ("ARGS" in docs/protocol.md).
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/messages.h"

namespace fuse4fs::protocol {

// Entry 0 is the file system's subtype, then source, mount point, "-o", options, …
using Arguments = std::vector<std::string>;

inline constexpr std::size_t kMaxArguments = 1024;
inline constexpr std::size_t kMaxArgumentBytes = 1 << 20;  // of the whole blob

Result<Bytes> encode_arguments(const Arguments& arguments);
// EBADMSG unless every entry lies inside the blob, ends with its only NUL, and count and size are within
// limits.
Result<Arguments> decode_arguments(ByteView blob);

// A sealed memfd with the encoded arguments, and its reading. Reading checks the size before it allocates.
Result<UniqueFd> write_arguments(const Arguments& arguments);
Result<Arguments> read_arguments(int memfd);

}  // namespace fuse4fs::protocol
