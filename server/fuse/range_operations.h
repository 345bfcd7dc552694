// SPDX-License-Identifier: GPL-2.0-or-later
// Range requests that the dispatcher decodes because the installed libfuse cannot.
#pragma once

#include <cstddef>
#include <span>

#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

// COPY_FILE_RANGE_64: one whole message. Answers it.
void copy_file_range_64(ext4::FileSystem& fs, std::span<const std::byte> request);

}  // namespace fuse4fs::fuse
