// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <functional>

#include "journal_input.h"
#include "tests/unit/journal/log_builder.h"

namespace fuse4fs::journal::fuzz {
namespace {

using test::LogBuilder;
using test::LogShape;
using test::Part;

LogBuilder three_transactions(const LogShape& shape) {
  LogBuilder log(shape);
  for (std::uint32_t number = 0; number < 3; ++number) {
    test::Transaction transaction{.copies = {}, .revokes = {}, .seconds = 1000 + number};
    for (std::uint32_t copy = 0; copy < 4; ++copy)
      transaction.copies.push_back({.home = 50 + (copy * number), .content = copy == 2 ? kMagic : copy});
    if (number > 0 && shape.version > 1) transaction.revokes = {50, 90 + number};
    log.add(transaction);
  }
  return log;
}

// The blocks of `log` that were written, as an input; `back` of them at the log's end.
std::vector<std::byte> as_input(LogBuilder& log, std::uint8_t bits) {
  const LogShape& shape = log.shape();
  if (shape.own_block != 0) bits |= kExternal;
  std::uint8_t back = 0;
  std::vector<std::byte> bytes;
  const auto append = [&](std::span<const std::byte> block) {
    bytes.insert(bytes.end(), block.begin(), block.end());
  };
  append(log.block(shape.own_block));
  for (const Part& part : log.parts()) {
    back += part.log_block >= shape.start && shape.start != shape.first ? 1 : 0;
    append(log.block(part.log_block));
  }
  bytes.insert(bytes.begin(), {std::byte{back}, std::byte{bits}});
  return bytes;
}

struct Damage {
  const char* name;
  std::function<void(LogBuilder&)> apply;
};

}  // namespace

std::vector<Seed> journal_seeds() {
  static const std::vector<Damage> kDamages = {
      {"whole", [](LogBuilder&) {}},
      {"torn",
       [](LogBuilder& log) {
         std::ranges::fill(log.block(log.find(Part::Role::kCommit, 12)), std::byte{0});
       }},
      {"commit", [](LogBuilder& log) { log.block(log.find(Part::Role::kCommit, 11))[16] ^= std::byte{1}; }},
      {"stale", [](LogBuilder& log) { log.block(log.find(Part::Role::kCommit, 12))[55] = std::byte{1}; }},
      {"data", [](LogBuilder& log) { log.block(log.find(Part::Role::kData, 11))[99] ^= std::byte{1}; }},
      {"outside",
       [](LogBuilder& log) {
         store_big_endian<std::uint32_t>(log.block(log.find(Part::Role::kDescriptor, 11)), 12, 5000);
       }},
  };
  std::vector<Seed> seeds;
  for (LogShape shape : test::all_shapes()) {
    if (shape.block_size != kBlockSize) continue;
    shape.blocks = kBlocks;
    for (const bool wrapped : {false, true}) {
      const std::uint32_t end =
          shape.blocks - ((shape.incompatible & kFeatureFastCommit) != 0 ? shape.fast_commit_blocks : 0);
      shape.start = wrapped ? end - 5 : shape.first;
      for (const Damage& damage : kDamages) {
        LogBuilder log = three_transactions(shape);
        damage.apply(log);
        for (const std::uint8_t bits : {0, kSealSuperblock | kSealRecords})
          seeds.push_back({std::string(shape.name) + (wrapped ? "-wrapped-" : "-") + damage.name +
                               (bits != 0 ? "-sealed" : ""),
                           as_input(log, bits)});
      }
    }
  }
  return seeds;
}

std::vector<std::byte> as_input(LogSource& log, const JournalSuperblock& superblock) {
  constexpr std::uint32_t kMost = 60;  // what tests/fuzz/run lets inputs grow to
  std::vector<std::byte> bytes = {std::byte{0}, std::byte{kSealSuperblock | kSealRecords}};
  std::vector<std::byte> block(kBlockSize);
  if (!log.read(superblock.own_block, block)) return bytes;
  store_big_endian(std::span(block), superblock_at::kMaxLength, kBlocks);
  store_big_endian<std::uint32_t>(block, superblock_at::kFirst, 1);
  store_big_endian<std::uint32_t>(block, superblock_at::kStart, 1);
  bytes.insert(bytes.end(), block.begin(), block.end());
  for (std::uint32_t distance = 0; distance < kMost; ++distance) {
    if (!log.read(superblock.after(superblock.start, distance), block)) break;
    bytes.insert(bytes.end(), block.begin(), block.end());
  }
  return bytes;
}

}  // namespace fuse4fs::journal::fuzz
