// SPDX-License-Identifier: GPL-2.0-or-later
// The operations that libfuse 3.14 does not know: TMPFILE and STATX, decoded here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

// Whether the opcode is one of them; then the request has been answered. `request` begins with its header.
bool serve_extra_operation(ext4::FileSystem& file_system, std::uint32_t opcode,
                           std::span<const std::byte> request);

}  // namespace fuse4fs::fuse
