// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/oracle/generator.h"

#include <algorithm>
#include <array>

#include "tests/iomap/device.h"

namespace fuse4fs::iomap_model {
namespace {

using Kind = Operation::Kind;

struct Weight {
  Kind kind;
  unsigned weight;
};
constexpr auto kWeights = std::to_array<Weight>({
    {Kind::kRead, 14},
    {Kind::kDirectRead, 8},
    {Kind::kWrite, 18},
    {Kind::kDirectWrite, 9},
    {Kind::kStore, 7},
    {Kind::kTruncate, 7},
    {Kind::kAllocate, 3},
    {Kind::kAllocateKeepingSize, 3},
    {Kind::kPunch, 6},
    {Kind::kZero, 3},
    {Kind::kZeroKeepingSize, 3},
    {Kind::kCopy, 3},
    {Kind::kSync, 3},
    {Kind::kSyncData, 2},
    {Kind::kClose, 2},
    {Kind::kReclaim, 3},
    {Kind::kEvict, 2},
    {Kind::kReplace, 1},
    {Kind::kSeekData, 2},
    {Kind::kSeekHole, 2},
    {Kind::kTick, 2},
    {Kind::kOpenTruncating, 1},
});
constexpr unsigned kSum = [] {
  unsigned sum = 0;
  for (const auto& [kind, weight] : kWeights) sum += weight;
  return sum;
}();

}  // namespace

Kind Generator::choose() {
  auto left = static_cast<unsigned>(below(kSum));
  for (const auto& [kind, weight] : kWeights) {
    if (left < weight) {
      const bool allocates = kind == Kind::kAllocate || kind == Kind::kAllocateKeepingSize;
      const bool is_made = !allocates || options_.allocations == GeneratorOptions::Allocations::kMade;
      return is_made ? kind : Kind::kRead;
    }
    left -= weight;
  }
  return Kind::kRead;
}

void Generator::choose_range(Operation& operation, std::uint64_t size, std::uint64_t alignment) {
  const auto round_up = [&](std::uint64_t at) { return (at + alignment - 1) / alignment * alignment; };
  operation.length = round_up(below(below(3) == 0 ? 300 : options_.largest_range) + 1);
  const bool far = options_.offsets == GeneratorOptions::Offsets::kAlsoFar && below(24) == 0;
  // Often near the end, where most can go wrong.
  if (far)
    operation.position = kFar + below(128 << 10);
  else if (below(4) == 0 && size > operation.length)
    operation.position = size - operation.length / 2;
  else
    operation.position = below(options_.largest_file);
  operation.position = operation.position / alignment * alignment;
}

Operation Generator::next(const std::vector<std::uint64_t>& sizes) {
  Operation operation{.kind = choose(), .file = below(options_.files)};
  const std::uint64_t size = sizes[operation.file];
  const bool direct = operation.kind == Kind::kDirectRead || operation.kind == Kind::kDirectWrite;
  std::uint64_t alignment = 1;
  if (direct) alignment = below(2) == 0 ? 4096 : Device::kLogicalBlock;
  if (!direct && below(3) == 0) alignment = 4096;
  choose_range(operation, size, alignment);
  if (needs_blocks(operation.kind)) operation.key = ++next_key_;
  switch (operation.kind) {
    case Kind::kStore:
      // Behind the end there is nothing to store to.
      if (options_.stores == GeneratorOptions::Stores::kNone || operation.position >= size)
        operation.kind = Kind::kRead;
      else
        operation.length = std::min(operation.length, size - operation.position);
      break;
    case Kind::kCopy:
      operation.to_file = below(options_.files);
      operation.to = below(options_.largest_file);
      break;
    case Kind::kSeekData:
    case Kind::kSeekHole:
      if (size > 0 && below(8) != 0) operation.position = below(std::min(size, options_.largest_file));
      break;
    default:
      break;
  }
  return operation;
}

}  // namespace fuse4fs::iomap_model
