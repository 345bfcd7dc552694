// SPDX-License-Identifier: GPL-2.0-or-later
// What a block device writes in one piece: after a power cut all of it is there, or nothing (RWF_ATOMIC).
#pragma once

#include <cstdint>

namespace fuse4fs::cache {

// Bytes. 0: it promises nothing.
struct AtomicWriteLimits {
  std::uint32_t unit_min = 0, unit_max = 0;

  // Of a power of two that the write is aligned to as well.
  [[nodiscard]] bool allow(std::uint32_t length) const {
    return unit_min != 0 && length >= unit_min && length <= unit_max;
  }
};

// By statx(2), which the sandbox does not allow later. Of what is no block device, and from kernels before
// 6.11: nothing. A partition that is not aligned to it has none, whatever its disk promises.
AtomicWriteLimits atomic_write_limits(int device_fd);

}  // namespace fuse4fs::cache
