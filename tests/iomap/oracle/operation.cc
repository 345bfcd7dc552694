// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/oracle/operation.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

constexpr auto kNames = std::to_array<std::string_view>({"read",
                                                         "direct read",
                                                         "write",
                                                         "direct write",
                                                         "store",
                                                         "truncate",
                                                         "open truncating",
                                                         "allocate",
                                                         "allocate keeping size",
                                                         "punch",
                                                         "zero",
                                                         "zero keeping size",
                                                         "copy",
                                                         "sync",
                                                         "sync data",
                                                         "close",
                                                         "reclaim",
                                                         "evict",
                                                         "replace",
                                                         "seek data",
                                                         "seek hole",
                                                         "tick"});

}  // namespace

std::string describe(const Operation& operation) {
  const auto name = kNames.at(static_cast<std::size_t>(operation.kind));
  std::string words =
      fmt::format("file{} {} {}+{}", operation.file, name, operation.position, operation.length);
  if (operation.kind == Operation::Kind::kCopy)
    words += fmt::format(" to file{} {}", operation.to_file, operation.to);
  if (operation.key != 0) words += fmt::format(" key {}", operation.key);
  return words;
}

std::vector<std::byte> bytes_of(const Operation& operation) {
  return pattern(operation.key, operation.position, operation.length);
}

bool needs_blocks(Operation::Kind kind) {
  switch (kind) {
    using enum Operation::Kind;
    case kWrite:
    case kDirectWrite:
    case kStore:
    case kTruncate:
    case kAllocate:
    case kAllocateKeepingSize:
    case kPunch:
    case kZero:
    case kZeroKeepingSize:
    case kCopy:
    case kReplace:
      return true;
    default:
      return false;
  }
}

std::string describe(const Outcome& outcome) {
  if (outcome.error != 0) return ::strerrorname_np(outcome.error);
  return fmt::format("{}", outcome.value);
}

std::string describe_difference(const Outcome& one, const Outcome& other) {
  const auto [here, there] = std::ranges::mismatch(one.bytes, other.bytes);
  if (here == one.bytes.end() || there == other.bytes.end()) return "";
  return fmt::format("byte {} is {:02x} and {:02x}", here - one.bytes.begin(),
                     std::to_integer<unsigned>(*here), std::to_integer<unsigned>(*there));
}

}  // namespace fuse4fs::iomap_model
