// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks that lie over those of a device which is not to be written: how a journal is replayed for a mount
// that only reads.
//
// A block is either redirected (its content is read from another place, the log, each time, so that a large
// log costs 16 bytes a block and not its size) or held in memory, because it was written here. Written ones
// win.
//
// Offsets are in bytes, blocks of the size given. Locking: none. One thread builds and writes it; after
// freeze() nothing changes and any thread reads.
// Errors: those of the device; ENOMEM past kMostWritten bytes of blocks in memory; EROFS after freeze().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"

namespace fuse4fs::cache {

class BlockDevice;

class BlockOverlay {
 public:
  static constexpr std::uint64_t kMostWritten = std::uint64_t{256} << 20;

  struct Redirect {
    std::uint64_t block;
    std::uint64_t at : 63;       // a block number as well
    std::uint64_t prefixed : 1;  // begins with Options::prefix, whatever lies there
  };
  using Prefix = std::array<std::byte, 4>;
  struct Options {
    std::size_t block_size = 0;
    // Sorted by block, each once.
    std::vector<Redirect> redirects = {};
    // What `at` counts in. Empty: the device that this lies over.
    std::shared_ptr<const BlockDevice> source = {};
    Prefix prefix{};
    std::uint64_t most_written = kMostWritten;
  };
  explicit BlockOverlay(Options options) : options_(std::move(options)) {}

  // How the device below is read.
  using Reader = std::function<Result<void>(std::uint64_t offset, std::span<std::byte> into)>;

  Result<void> read(std::uint64_t offset, std::span<std::byte> into, const Reader& below) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> from, const Reader& below);
  // Whether any byte of the range is not the device's own.
  [[nodiscard]] bool covers(std::uint64_t offset, std::uint64_t length) const;

  void freeze() { frozen_ = true; }
  [[nodiscard]] bool frozen() const { return frozen_; }
  [[nodiscard]] std::size_t redirected_blocks() const { return options_.redirects.size(); }
  [[nodiscard]] std::size_t written_blocks() const { return written_.size(); }

 private:
  // The first block from `block` on that lies here; UINT64_MAX if there is none.
  [[nodiscard]] std::uint64_t next_covered(std::uint64_t block) const;
  [[nodiscard]] const Redirect* redirect_of(std::uint64_t block) const;
  // A part of one block that lies here.
  Result<void> read_covered(std::uint64_t block, std::size_t inside, std::span<std::byte> into,
                            const Reader& below) const;

  const Options options_;
  std::map<std::uint64_t, std::unique_ptr<std::byte[]>> written_;
  bool frozen_ = false;
};

}  // namespace fuse4fs::cache
