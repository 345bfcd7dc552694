// SPDX-License-Identifier: GPL-2.0-or-later
// What INIT made of this mount's connection to the kernel, for as long as it lasts.
#pragma once

#include <atomic>
#include <cstdint>

namespace fuse4fs::fuse {

// Who moves the data of regular files.
enum class DataPath {
  kServer,  // READ and WRITE bring it here
  kIomap    // the kernel itself; it asks where it lies, and keeps times, modes, ACLs and flags
};

// Any thread. `data_path` changes once, while INIT is answered, when there is no other request.
struct Connection {
  std::atomic<DataPath> data_path = DataPath::kServer;

  // What the kernel's own direct I/O to the device must be a multiple of, in bytes. Set with it.
  std::uint32_t sector_size = 0;
  // SessionOptions::atomic_write_unit. Set with it as well.
  std::uint32_t atomic_write_unit = 0;

  [[nodiscard]] bool uses_iomap() const {
    return data_path.load(std::memory_order_relaxed) == DataPath::kIomap;
  }
};

}  // namespace fuse4fs::fuse
