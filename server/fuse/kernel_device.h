// SPDX-License-Identifier: GPL-2.0-or-later
// What /dev/fuse does for a server beside handing out requests and taking replies: it is told things, and
// asked for iomap.
//
// Any thread. A test puts a model of the kernel in its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace fuse4fs::fuse {

class KernelDevice {
 public:
  virtual ~KernelDevice() = default;

  // A notification: `code` is fuse_out_header.error, `what` its struct. The kernel has done it when this
  // returns; its refusal is the error.
  virtual Result<void> notify(int device_fd, std::int32_t code, std::span<const std::byte> what);

  // iomap_abi::Support::flags; 0 where the kernel knows no iomap, or this descriptor may not use it.
  virtual std::uint64_t iomap_support(int device_fd);
  // Answers the id that mappings name it by. Once INIT has been answered.
  virtual Result<std::uint32_t> register_block_device(int device_fd, int block_device);
  // The calling thread's allocations do not wait for file systems to write (they might wait for this one).
  // Once mounted.
  virtual Result<void> never_wait_for_file_systems(int device_fd);

  // The machine's.
  static KernelDevice& real();
};

template <class Struct>
Result<void> notify(KernelDevice& kernel, int device_fd, std::int32_t code, const Struct& what) {
  return kernel.notify(device_fd, code, std::as_bytes(std::span(&what, 1)));
}

}  // namespace fuse4fs::fuse
