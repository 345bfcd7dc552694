// SPDX-License-Identifier: GPL-2.0-or-later
// What the server tells the kernel unasked.
//
// Only from a request's thread and only what takes no page locks in the kernel: such a message is worked off
// inside the write to /dev/fuse, and a worker that waits there for a page whose WRITE is still in the queue
// would wait for ever.
#pragma once

#include <cstdint>

namespace fuse4fs::fuse {

// The attributes that the kernel has cached of this inode are old. Of a regular file it keeps size, mtime and
// ctime all the same (write-back cache).
void attributes_changed(std::uint64_t node_id);

}  // namespace fuse4fs::fuse
