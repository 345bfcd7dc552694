// SPDX-License-Identifier: GPL-2.0-or-later
// What files should hold, byte for byte, by what was done to them: nothing of a server and nothing of the
// model.
//
// One thread. Judges outcomes instead of having some: where data is, a file system decides. Offsets near
// enough for memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/iomap/oracle/operation.h"

namespace fuse4fs::iomap_model {

class MemorySide {
 public:
  MemorySide(std::size_t files, std::uint64_t block_size) : files_(files), block_(block_size) {}

  // It was done somewhere and came to that: empty, or what is wrong with it.
  [[nodiscard]] std::string judge(const Operation& operation, const Outcome& outcome);
  [[nodiscard]] std::uint64_t size(std::size_t file) const { return files_[file].size(); }
  [[nodiscard]] std::vector<std::uint64_t> sizes() const;

 private:
  using Bytes = std::vector<std::byte>;

  [[nodiscard]] std::string judge_read(const Operation& operation, const Outcome& outcome) const;
  [[nodiscard]] std::string judge_seek(const Operation& operation, const Outcome& outcome) const;
  [[nodiscard]] std::string judge_copy(const Operation& operation, const Outcome& outcome);
  void change(const Operation& operation);
  static void put(Bytes& file, std::uint64_t position, const Bytes& bytes);

  std::vector<Bytes> files_;
  const std::uint64_t block_;
};

}  // namespace fuse4fs::iomap_model
