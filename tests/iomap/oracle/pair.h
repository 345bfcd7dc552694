// SPDX-License-Identifier: GPL-2.0-or-later
// Two sides that do the same, and what they must agree on.
//
// After each operation: what it came to, and the size. From time to time (look_closely()): contents, and,
// since both are synced for it, where data is. Not compared is what ext4 promises nothing of:
//  - where data is before a sync (delayed allocation), and how many blocks a file has, with those of its map;
//  - holes against unwritten blocks, which are holes to SEEK_HOLE: blocks behind the end and around a range
//  that
//    was allocated or made zeros;
//  - blocks of zeros that one side has as data and the other as a hole: what is written with a neighbour in
//  its
//    page or extent. The contents are compared all the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tests/iomap/oracle/side.h"

namespace fuse4fs::iomap_model {

class Pair {
 public:
  Pair(Side& ours, Side& kernels, std::size_t files) : ours_(ours), kernels_(kernels), files_(files) {}

  // Both do it. Empty, or how they differ.
  [[nodiscard]] std::string apply(const Operation& operation);
  // The same where the volume may be full: then one side may find it so a bit before the other. Where it
  // does, it must be full indeed, but for `slack`; and the file is emptied, so that both are alike again.
  [[nodiscard]] std::string apply_when_full(const Operation& operation, std::uint64_t slack);
  [[nodiscard]] std::string look_closely();
  // Contents alone: of volumes that are only read.
  [[nodiscard]] std::string compare_contents();

  [[nodiscard]] std::vector<std::uint64_t> sizes();
  // The last operations, a line each.
  [[nodiscard]] std::string history() const;
  // How often something was allowed to differ, for whoever wants to know.
  struct Allowed {
    std::uint64_t layouts = 0;  // zeros that are data on one side only, by maps compared
    std::uint64_t maps = 0;     // maps compared
    std::uint64_t seeks = 0;    // the same for SEEK_DATA and SEEK_HOLE
    std::uint64_t full = 0;     // one side was full before the other
    std::uint64_t both_full = 0;
  };
  [[nodiscard]] const Allowed& allowed() const { return allowed_; }

 private:
  [[nodiscard]] bool is_right(const Operation& seek, const Outcome& outcome);
  void remember(const Operation& operation, const Outcome& outcome);
  [[nodiscard]] std::string compare_sizes(std::size_t file);
  [[nodiscard]] std::string compare_range(std::size_t file, ext4::ByteRange range);
  [[nodiscard]] std::string compare_layout(std::size_t file);
  [[nodiscard]] std::string judge_full(const Operation& operation, const Outcome& here, const Outcome& there,
                                       std::uint64_t slack);

  static constexpr std::size_t kHistory = 50;
  Side& ours_;
  Side& kernels_;
  const std::size_t files_;
  std::deque<std::string> history_;
  std::size_t done_ = 0;
  Allowed allowed_;
};

}  // namespace fuse4fs::iomap_model
