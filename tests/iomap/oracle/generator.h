// SPDX-License-Identifier: GPL-2.0-or-later
// Random operations, the same ones for the same seed and the same sizes of files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/iomap/oracle/operation.h"

namespace fuse4fs::iomap_model {

struct GeneratorOptions {
  std::uint64_t seed = 1;
  std::size_t files = 2;
  std::uint64_t largest_file = 512 << 10;  // bytes, but for far offsets
  std::uint64_t largest_range = 64 << 10;
  // Now and then far behind the rest, across the border of 32 bits.
  enum class Offsets { kNear, kAlsoFar };
  Offsets offsets = Offsets::kAlsoFar;
  // A store to a mapping of a full volume is a signal.
  enum class Stores { kMade, kNone };
  Stores stores = Stores::kMade;
  // Of a file inside its inode ext4 (6.18) loses what is written after one (docs/differences.md).
  enum class Allocations { kMade, kNone };
  Allocations allocations = Allocations::kMade;
};

class Generator {
 public:
  static constexpr std::uint64_t kFar = (std::uint64_t{1} << 32) - (64 << 10);

  explicit Generator(const GeneratorOptions& options) : options_(options), random_(options.seed) {}

  // `sizes`: of the files now.
  Operation next(const std::vector<std::uint64_t>& sizes);

 private:
  void choose_range(Operation& operation, std::uint64_t size, std::uint64_t alignment);
  Operation::Kind choose();
  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  const GeneratorOptions options_;
  std::mt19937_64 random_;
  std::uint32_t next_key_ = 0;
};

}  // namespace fuse4fs::iomap_model
