// SPDX-License-Identifier: GPL-2.0-or-later
// What the server tells the kernel unasked. Any thread; nothing is lost where the kernel has forgotten the
// node already.
#pragma once

#include <cstdint>

namespace fuse4fs::fuse {

// The kernel is to ask for this node's attributes before it relies on them again. May be sent while a request
// of the same node waits. The first sends it through the current request's descriptor.
void invalidate_attributes(std::uint64_t node);
void invalidate_attributes(int device_fd, std::uint64_t node);

// The kernel writes what it holds of these bytes that the server has not got, and forgets them. `length` 0:
// to the end of the file. Returns when other workers have served those WRITEs: see SerialQueue.
void write_dirty_pages(int device_fd, std::uint64_t node, std::uint64_t begin, std::uint64_t length);

}  // namespace fuse4fs::fuse
