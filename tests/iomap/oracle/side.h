// SPDX-License-Identifier: GPL-2.0-or-later
// One volume with a few files in its root directory, "file0" and so on, and somebody who does operations to
// them.
//
// One thread. Errors of a volume that cannot be used at all are exceptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/ext4/file_system.h"
#include "tests/iomap/oracle/operation.h"

namespace fuse4fs::iomap_model {

class Side {
 public:
  virtual ~Side() = default;

  virtual Outcome apply(const Operation& operation) = 0;
  [[nodiscard]] virtual std::uint64_t size(std::size_t file) = 0;
  // Synced and with empty caches, so that only what lies on the volume counts: what SEEK_DATA calls data,
  // what FIEMAP calls no hole, and st_blocks.
  struct Layout {
    std::vector<ext4::ByteRange> data, allocated;
    std::uint64_t sectors = 0;
  };
  [[nodiscard]] virtual Layout layout(std::size_t file) = 0;
  // Of the volume, for everybody.
  [[nodiscard]] virtual std::uint64_t free_bytes() = 0;
};

[[nodiscard]] inline std::string file_name(std::size_t file) { return "file" + std::to_string(file); }

}  // namespace fuse4fs::iomap_model
