// SPDX-License-Identifier: GPL-2.0-or-later
// The program's operator new, which can refuse one allocation. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuse4fs {

struct RefusedMemory {
  bool counting = false;
  std::size_t allocations = 0;  // since it counts
  std::size_t refused = SIZE_MAX;
};
extern RefusedMemory refused_memory;

}  // namespace fuse4fs
