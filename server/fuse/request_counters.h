// SPDX-License-Identifier: GPL-2.0-or-later
// How many requests of each opcode the kernel has sent.
//
// Any thread. Each thread counts in a row of its own (threads beyond the rows share), so that counting costs
// no traffic between processors; the sum is right for all that was counted before it was asked for.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace fuse4fs::fuse {

class RequestCounters {
 public:
  void count(std::uint32_t opcode);
  [[nodiscard]] std::uint64_t of(std::uint32_t opcode) const;
  // "LOOKUP 12, MKNOD 3", by opcode; "none" before the first request.
  [[nodiscard]] std::string text() const;

 private:
  static constexpr std::size_t kRows = 16;
  // The kernel knows 54 and, far from them, those of iomap; what is beyond counts as the last.
  static constexpr std::size_t kOpcodes = 64;
  static std::size_t place_of(std::uint32_t opcode);
  static constexpr std::size_t kCacheLine = 64;
  struct alignas(kCacheLine) Row {
    std::array<std::atomic<std::uint64_t>, kOpcodes> counts{};
  };
  std::array<Row, kRows> rows_{};
};

}  // namespace fuse4fs::fuse
