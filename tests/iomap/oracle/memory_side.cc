// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/oracle/memory_side.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace fuse4fs::iomap_model {
namespace {

bool all_zeros(std::vector<std::byte>::const_iterator begin, std::vector<std::byte>::const_iterator end) {
  return std::all_of(begin, end, [](auto byte) { return byte == std::byte{0}; });
}

auto at(auto& file, std::uint64_t position) {
  return file.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(position, file.size()));
}

}  // namespace

std::vector<std::uint64_t> MemorySide::sizes() const {
  std::vector<std::uint64_t> all;
  for (const Bytes& file : files_) all.push_back(file.size());
  return all;
}

void MemorySide::put(Bytes& file, std::uint64_t position, const Bytes& bytes) {
  if (bytes.empty()) return;
  file.resize(std::max<std::size_t>(file.size(), position + bytes.size()));
  std::ranges::copy(bytes, at(file, position));
}

std::string MemorySide::judge_read(const Operation& operation, const Outcome& outcome) const {
  const Bytes& file = files_[operation.file];
  const Outcome wanted{
      .error = 0,
      .value = static_cast<std::uint64_t>(at(file, operation.position + operation.length) -
                                          at(file, operation.position)),
      .bytes = Bytes(at(file, operation.position), at(file, operation.position + operation.length))};
  if (outcome == wanted) return "";
  return fmt::format("{} instead of {}; {}", describe(outcome), describe(wanted),
                     describe_difference(outcome, wanted));
}

std::string MemorySide::judge_seek(const Operation& operation, const Outcome& outcome) const {
  const Bytes& file = files_[operation.file];
  const bool data = operation.kind == Operation::Kind::kSeekData;
  if (operation.position >= file.size()) return outcome.error == ENXIO ? "" : "something behind the end";
  if (outcome.error == ENXIO && data)
    return all_zeros(at(file, operation.position), file.end()) ? "" : "there is data";
  if (outcome.error != 0) return describe(outcome);
  if (outcome.value < operation.position || outcome.value > file.size())
    return "elsewhere: " + describe(outcome);
  if (data)
    return all_zeros(at(file, operation.position), at(file, outcome.value)) ? "" : "there is data before it";
  return all_zeros(at(file, outcome.value), at(file, (outcome.value / block_ + 1) * block_))
             ? ""
             : "data in the hole";
}

std::string MemorySide::judge_copy(const Operation& operation, const Outcome& outcome) {
  const Bytes& source = files_[operation.file];
  const Bytes bytes(at(source, operation.position), at(source, operation.position + operation.length));
  const bool overlap = operation.file == operation.to_file && !bytes.empty() &&
                       operation.to + bytes.size() > operation.position &&
                       operation.to < operation.position + bytes.size();
  if (overlap) return outcome.error == EINVAL ? "" : "the parts overlap: " + describe(outcome);
  if (outcome.error != 0 || outcome.value != bytes.size())
    return fmt::format("{} instead of {}", describe(outcome), bytes.size());
  put(files_[operation.to_file], operation.to, bytes);
  return "";
}

void MemorySide::change(const Operation& operation) {
  Bytes& file = files_[operation.file];
  const std::uint64_t end = operation.position + operation.length;
  switch (operation.kind) {
    using enum Operation::Kind;
    case kStore:
      return put(file, operation.position, bytes_of(operation));
    case kTruncate:
      return file.resize(operation.position);
    case kOpenTruncating:
    case kReplace:
      return file.clear();
    case kAllocate:
      return file.resize(std::max<std::size_t>(file.size(), end));
    case kZero:
    case kZeroKeepingSize:
    case kPunch:
      std::fill(at(file, operation.position), at(file, end), std::byte{0});
      if (operation.kind == kZero) file.resize(std::max<std::size_t>(file.size(), end));
      return;
    default:
      return;
  }
}

std::string MemorySide::judge(const Operation& operation, const Outcome& outcome) {
  switch (operation.kind) {
    using enum Operation::Kind;
    case kRead:
    case kDirectRead:
      return judge_read(operation, outcome);
    case kSeekData:
    case kSeekHole:
      return judge_seek(operation, outcome);
    case kCopy:
      return judge_copy(operation, outcome);
    case kWrite:
    case kDirectWrite:
      if (outcome.error != 0 || outcome.value != operation.length) return describe(outcome);
      put(files_[operation.file], operation.position, bytes_of(operation));
      return "";
    case kAllocate:
    case kAllocateKeepingSize:
    case kZero:
    case kZeroKeepingSize:
      // Without extents there is nothing unwritten.
      if (outcome.error == EOPNOTSUPP) return "";
      [[fallthrough]];
    default:
      if (outcome.error != 0) return describe(outcome);
      change(operation);
      return "";
  }
}

}  // namespace fuse4fs::iomap_model
