// SPDX-License-Identifier: GPL-2.0-or-later
// A file of AllocatingVolume.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "tests/iomap/allocating_volume.h"

namespace fuse4fs::iomap_model {

struct AllocatingVolume::Inode {
  static constexpr std::uint64_t kEnd = ~std::uint64_t{0};
  static constexpr std::size_t kRoom = 4096;  // for bytes, most of it never used
  enum class State { kWritten, kUnwritten };
  struct Block {
    std::uint64_t place = 0;  // on the device
    State state = State::kUnwritten;
  };

  std::mutex mutex;
  InodeNumber number = 0;
  std::map<std::uint64_t, Block> blocks;  // by their place in the file
  std::uint64_t size = 0;                 // on the disk
  // Up to where there is data that the kernel has not written yet. END tells it.
  std::uint64_t wanted_size = 0;
  bool in_inode = false;
  std::vector<std::byte> bytes = std::vector<std::byte>(kRoom);  // where in_inode
  std::optional<Errno> late_error;                               // for the next sync
  // Guarded by the volume's mutex.
  std::uint64_t lookups = 0;
  bool linked = true;
};

}  // namespace fuse4fs::iomap_model
