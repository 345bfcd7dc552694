// SPDX-License-Identifier: GPL-2.0-or-later
// What a file should hold: every byte that applications wrote, holes as zeros.
//
// Not locked: FileLedger does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>

namespace fuse4fs::iomap_model {

class Contents {
 public:
  [[nodiscard]] std::uint64_t size() const { return size_; }
  void write(std::uint64_t position, std::span<const std::byte> bytes);
  // Zeros; does not move the size.
  void zero(std::uint64_t position, std::uint64_t length);
  void resize(std::uint64_t size);
  // The first byte of the range that is not zero.
  [[nodiscard]] std::optional<std::uint64_t> first_data(std::uint64_t position, std::uint64_t length) const;
  // Bytes behind the size are zeros.
  void read(std::uint64_t position, std::span<std::byte> into) const;

 private:
  static constexpr std::size_t kChunk = 64 << 10;
  using Chunk = std::array<std::byte, kChunk>;

  std::uint64_t size_ = 0;
  std::map<std::uint64_t, std::unique_ptr<Chunk>> chunks_;  // by number; absent: zeros
};

}  // namespace fuse4fs::iomap_model
