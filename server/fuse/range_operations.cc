// SPDX-License-Identifier: GPL-2.0-or-later
// The operations of libfuse: FALLOCATE, LSEEK and COPY_FILE_RANGE.
#include "server/fuse/operation_entry.h"
#include "server/fuse/operations.h"

namespace fuse4fs::fuse {

void add_range_operations(fuse_lowlevel_ops&) {}

}  // namespace fuse4fs::fuse
