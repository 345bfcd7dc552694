// SPDX-License-Identifier: GPL-2.0-or-later
// Writes logs as jbd2 does, in every form of its format, into memory: the other half of what server/journal
// reads.
//
// It shares only the offsets of format.h with the reader, not the code. What it wrote where is known
// afterwards, so that a test can tear it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <ostream>
#include <span>
#include <string_view>
#include <vector>

#include "server/journal/format.h"
#include "server/journal/log_source.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal::test {

struct LogShape {
  std::string_view name = "plain";
  std::uint32_t version = 2;
  std::uint32_t block_size = 1024;
  std::uint32_t blocks = 1100;
  std::uint32_t own_block = 0;
  std::uint32_t first = 1;
  std::uint32_t start = 1;
  std::uint32_t sequence = 10;
  std::uint32_t compatible = 0;
  std::uint32_t incompatible = kFeatureRevoke;
  std::uint32_t fast_commit_blocks = 0;
  std::uint32_t users = 0;
  std::size_t tags_per_descriptor = 0;  // 0: as many as fit
  bool mark_last_of_full = true;        // false: a full list ends with its block, without a last tag
  bool uuid_in_every_tag = false;
};

inline void PrintTo(const LogShape& shape, std::ostream* out) { *out << shape.name; }

// All the forms that a log can have, a row each.
const std::vector<LogShape>& all_shapes();

struct Copy {
  std::uint64_t home = 0;
  std::uint32_t content = 0;  // repeated to the end of the block; kMagic: has to be escaped
};

struct Transaction {
  std::vector<Copy> copies = {};
  std::vector<std::uint64_t> revokes = {};
  std::uint64_t seconds = 1000;
  bool commit = true;
};

// Where a block of a transaction went.
struct Part {
  enum class Role { kDescriptor, kData, kRevoke, kCommit };
  Role role;
  std::uint32_t log_block;
  std::uint32_t sequence;
};

class LogBuilder final : public LogSource {
 public:
  explicit LogBuilder(LogShape shape);

  void add(const Transaction& transaction);

  [[nodiscard]] const LogShape& shape() const { return shape_; }
  [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }
  // The `nth` part of that role in transaction `sequence`.
  [[nodiscard]] std::uint32_t find(Part::Role role, std::uint32_t sequence, std::size_t nth = 0) const;
  [[nodiscard]] std::uint32_t next_block() const { return place_; }
  [[nodiscard]] std::uint32_t next_sequence() const { return sequence_; }
  [[nodiscard]] std::span<std::byte> block(std::uint32_t number);
  [[nodiscard]] std::span<std::byte> superblock_bytes();
  // After a change by hand, so that only the change is judged.
  void seal_superblock();
  void seal_tail(std::uint32_t log_block);
  void seal_commit(std::uint32_t log_block);

  [[nodiscard]] JournalExpectation expectation() const { return {.block_size = shape_.block_size}; }
  [[nodiscard]] const std::vector<std::byte>& image() const { return image_; }
  // How often each log block was read.
  [[nodiscard]] const std::map<std::uint32_t, int>& reads() const { return reads_; }

  // LogSource
  [[nodiscard]] std::uint32_t block_size() const override { return shape_.block_size; }
  [[nodiscard]] std::uint32_t blocks() const override { return shape_.blocks; }
  [[nodiscard]] std::uint32_t superblock() const override { return shape_.own_block; }
  Result<void> read(std::uint32_t first, std::span<std::byte> into) override;

 private:
  std::span<std::byte> take(Part::Role role);
  [[nodiscard]] std::size_t tag_bytes() const;
  [[nodiscard]] bool block_checksums() const;
  [[nodiscard]] std::size_t most_tags() const;
  void write_header(std::span<std::byte> bytes, BlockKind kind) const;
  void write_revokes(std::span<const std::uint64_t> homes);
  void write_copies(std::span<const Copy> copies);
  void write_tag(std::span<std::byte> descriptor, std::size_t offset, const Copy& copy, std::uint32_t flags,
                 std::span<const std::byte> data) const;
  void write_commit(std::uint64_t seconds);

  LogShape shape_;
  std::vector<std::byte> image_;
  std::vector<Part> parts_;
  std::map<std::uint32_t, int> reads_;
  std::uint32_t place_;
  std::uint32_t sequence_;
  std::uint32_t log_end_;
  std::uint32_t transaction_crc_ = ~std::uint32_t{0};
};

// The bytes that Copy::content stands for.
std::vector<std::byte> content_block(std::uint32_t block_size, std::uint32_t content);

}  // namespace fuse4fs::journal::test
