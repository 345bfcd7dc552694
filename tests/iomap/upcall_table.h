// SPDX-License-Identifier: GPL-2.0-or-later
// What kernels ask for what, and what they may at most: a row for each workload, printed as one table.
//
// One thread.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/iomap/kernel.h"

namespace fuse4fs::iomap_model {

struct Upcalls {
  std::uint64_t begin = 0, end = 0, ioend = 0;
  std::uint64_t other = 0;  // whatever else was asked
};

class UpcallTable {
 public:
  // What `kernel` asks from now on is the next row's.
  void start(Kernel& kernel);
  // Ends the row; a test fails where it has more than `most` in a column.
  void add(std::string workload, const Upcalls& most);
  // In Markdown; behind each figure what it may be at most.
  [[nodiscard]] std::string text() const;

 private:
  struct Row {
    std::string workload;
    Upcalls seen, most;
  };
  [[nodiscard]] Upcalls counted() const;

  Kernel* kernel_ = nullptr;
  Upcalls before_;
  std::vector<Row> rows_;
};

}  // namespace fuse4fs::iomap_model
