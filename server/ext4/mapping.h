// SPDX-License-Identifier: GPL-2.0-or-later
// Where a stretch of a file's blocks lies.
#pragma once

#include <cstdint>

namespace fuse4fs::ext4 {

// In blocks.
struct Mapping {
  enum class Kind { kHole, kUnwritten, kWritten };
  std::uint64_t logical = 0;
  std::uint64_t physical = 0;  // of the first block; 0 for a hole
  std::uint64_t count = 0;
  Kind kind = Kind::kHole;

  [[nodiscard]] std::uint64_t end() const { return logical + count; }
  friend bool operator==(const Mapping&, const Mapping&) = default;
};

}  // namespace fuse4fs::ext4
