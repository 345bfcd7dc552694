// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/upcall_table.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <utility>

namespace fuse4fs::iomap_model {

Upcalls UpcallTable::counted() const {
  Upcalls all;
  for (const auto& [opcode, count] : kernel_->counts()) {
    switch (opcode) {
      case abi::kBegin:
        all.begin += count;
        break;
      case abi::kEnd:
        all.end += count;
        break;
      case abi::kIoend:
        all.ioend += count;
        break;
      default:
        all.other += count;
    }
  }
  return all;
}

void UpcallTable::start(Kernel& kernel) {
  kernel_ = &kernel;
  before_ = counted();
}

void UpcallTable::add(std::string workload, const Upcalls& most) {
  const Upcalls now = counted();
  const Upcalls seen{.begin = now.begin - before_.begin,
                     .end = now.end - before_.end,
                     .ioend = now.ioend - before_.ioend,
                     .other = now.other - before_.other};
  EXPECT_LE(seen.begin, most.begin) << "BEGIN of " << workload;
  EXPECT_LE(seen.end, most.end) << "END of " << workload;
  EXPECT_LE(seen.ioend, most.ioend) << "IOEND of " << workload;
  EXPECT_LE(seen.other, most.other) << "other requests of " << workload;
  rows_.push_back({.workload = std::move(workload), .seen = seen, .most = most});
}

std::string UpcallTable::text() const {
  std::string text =
      "| workload | BEGIN (most) | END | IOEND | other |\n| --- | ---: | ---: | ---: | ---: |\n";
  for (const auto& [workload, seen, most] : rows_)
    text += fmt::format("| {} | {} ({}) | {} ({}) | {} ({}) | {} ({}) |\n", workload, seen.begin, most.begin,
                        seen.end, most.end, seen.ioend, most.ioend, seen.other, most.other);
  return text;
}

}  // namespace fuse4fs::iomap_model
