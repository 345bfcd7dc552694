// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/oracle/pair.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/zeros.h"
#include "tests/iomap/oracle/generator.h"

namespace fuse4fs::iomap_model {
namespace {

using ext4::ByteRange;

bool holds(const std::vector<ByteRange>& ranges, std::uint64_t at) {
  return std::ranges::any_of(
      ranges, [&](ByteRange range) { return at >= range.offset && at - range.offset < range.length; });
}

// Where one of them begins or ends.
std::vector<std::uint64_t> borders(const Side::Layout& one, const Side::Layout& other) {
  std::vector<std::uint64_t> all;
  for (const auto* const ranges : {&one.data, &other.data, &one.allocated, &other.allocated})
    for (const ByteRange range : *ranges) {
      all.push_back(range.offset);
      all.push_back(range.offset + range.length);
    }
  std::ranges::sort(all);
  const auto repeated = std::ranges::unique(all);
  all.erase(repeated.begin(), repeated.end());
  return all;
}

std::string words(const std::vector<ByteRange>& ranges) {
  std::string out;
  for (const ByteRange range : ranges) out += fmt::format(" {}+{}", range.offset, range.length);
  return out;
}

Operation reading(std::size_t file, ByteRange range) {
  return {.kind = Operation::Kind::kRead, .file = file, .position = range.offset, .length = range.length};
}

}  // namespace

void Pair::remember(const Operation& operation, const Outcome& outcome) {
  history_.push_back(fmt::format("{:5} {}: {}", done_++, describe(operation), describe(outcome)));
  if (history_.size() > kHistory) history_.pop_front();
}

std::string Pair::history() const {
  std::string out;
  for (const auto& line : history_) out += line + "\n";
  return out;
}

std::vector<std::uint64_t> Pair::sizes() {
  std::vector<std::uint64_t> all;
  for (std::size_t file = 0; file < files_; ++file) all.push_back(kernels_.size(file));
  return all;
}

std::string Pair::compare_sizes(std::size_t file) {
  const std::uint64_t here = ours_.size(file), there = kernels_.size(file);
  if (here == there) return "";
  return fmt::format("file{} has a size of {}, the kernel's {}", file, here, there);
}

// Where the sides may differ: whether what was passed over reads as zeros.
bool Pair::is_right(const Operation& seek, const Outcome& outcome) {
  const std::uint64_t size = kernels_.size(seek.file);
  const bool data = seek.kind == Operation::Kind::kSeekData;
  if (outcome.error != 0 && (outcome.error != ENXIO || !data)) return false;
  if (outcome.error == 0 && (outcome.value < seek.position || outcome.value > size)) return false;
  ByteRange zeros{.offset = seek.position, .length = 0};
  if (data) {
    const std::uint64_t end = outcome.error != 0 ? size : outcome.value;
    // Behind what is near there is nothing up to what is far (generator.h).
    constexpr std::uint64_t kNear = 2 << 20;
    if (seek.position < kNear)
      zeros.length = std::min(end, kNear) - seek.position;
    else
      zeros.length = std::min(end - seek.position, kNear);
  } else {
    // The rest of one of the smallest blocks at least.
    constexpr std::uint64_t kLeast = 1024;
    zeros.offset = outcome.value;
    zeros.length = std::min(kLeast - outcome.value % kLeast, size - outcome.value);
  }
  return is_zero(kernels_.apply(reading(seek.file, zeros)).bytes);
}

std::string Pair::apply(const Operation& operation) {
  const Outcome here = ours_.apply(operation), there = kernels_.apply(operation);
  remember(operation, there);
  const bool seeks =
      operation.kind == Operation::Kind::kSeekData || operation.kind == Operation::Kind::kSeekHole;
  if (here != there && seeks && operation.position < kernels_.size(operation.file) &&
      is_right(operation, here) && is_right(operation, there)) {
    ++allowed_.seeks;
    return "";
  }
  if (here != there)
    return fmt::format("{}: {}, the kernel's {} {}", describe(operation), describe(here), describe(there),
                       describe_difference(here, there));
  const std::string sizes = compare_sizes(operation.file);
  if (!sizes.empty() || operation.kind != Operation::Kind::kCopy) return sizes;
  return compare_sizes(operation.to_file);
}

std::string Pair::judge_full(const Operation& operation, const Outcome& here, const Outcome& there,
                             std::uint64_t slack) {
  for (const auto* const outcome : {&here, &there}) {
    const bool refused = outcome->error == ENOSPC;
    if (outcome->error != 0 && !refused) return "something else than a full volume";
  }
  const bool ours_is_full = here.error == ENOSPC || (there.error == 0 && here.value < there.value);
  const bool kernels_is_full = there.error == ENOSPC || (here.error == 0 && there.value < here.value);
  if (ours_is_full && kernels_is_full) ++allowed_.both_full;
  if (ours_is_full != kernels_is_full) ++allowed_.full;
  // By what it left there must have been less than it needed.
  const std::uint64_t needed = operation.length + slack;
  if (ours_is_full && ours_.free_bytes() > needed)
    return fmt::format("full with {} bytes free", ours_.free_bytes());
  return "";
}

std::string Pair::apply_when_full(const Operation& operation, std::uint64_t slack) {
  const Outcome here = ours_.apply(operation), there = kernels_.apply(operation);
  remember(operation, there);
  const bool full = here.error == ENOSPC || there.error == ENOSPC || here.value != there.value;
  if (full && needs_blocks(operation.kind)) {
    if (const auto wrong = judge_full(operation, here, there, slack); !wrong.empty())
      return fmt::format("{}: {}, the kernel's {}: {}", describe(operation), describe(here), describe(there),
                         wrong);
    const std::size_t file = operation.kind == Operation::Kind::kCopy ? operation.to_file : operation.file;
    return apply({.kind = Operation::Kind::kTruncate, .file = file});
  }
  if (here != there)
    return fmt::format("{}: {}, the kernel's {} {}", describe(operation), describe(here), describe(there),
                       describe_difference(here, there));
  return compare_sizes(operation.file);
}

std::string Pair::compare_range(std::size_t file, ByteRange range) {
  const Outcome here = ours_.apply(reading(file, range)), there = kernels_.apply(reading(file, range));
  if (here == there) return "";
  return fmt::format("file{} from {}: read {}, the kernel's {} {}", file, range.offset, describe(here),
                     describe(there), describe_difference(here, there));
}

std::string Pair::compare_contents() {
  // Nothing is written far behind these (generator.h), but for what the largest file has at its end.
  constexpr std::uint64_t kPart = 1 << 20;
  for (std::size_t file = 0; file < files_; ++file) {
    if (const auto wrong = compare_sizes(file); !wrong.empty()) return wrong;
    for (const std::uint64_t begin : {std::uint64_t{0}, Generator::kFar}) {
      const std::uint64_t size = kernels_.size(file);
      if (begin >= size) continue;
      const ByteRange range{.offset = begin, .length = std::min(kPart, size - begin)};
      if (const auto wrong = compare_range(file, range); !wrong.empty()) return wrong;
    }
  }
  return "";
}

std::string Pair::compare_layout(std::size_t file) {
  const auto here = ours_.layout(file), there = kernels_.layout(file);
  ++allowed_.maps;
  const auto all = borders(here, there);
  const std::uint64_t size = kernels_.size(file);
  for (std::size_t at = 0; at < all.size() && all[at] < size; ++at) {
    const bool ours = holds(here.data, all[at]), kernels = holds(there.data, all[at]);
    if (ours && !holds(here.allocated, all[at]))
      return fmt::format("file{}: data at {} in a hole", file, all[at]);
    if (ours == kernels) continue;
    const std::uint64_t end = at + 1 < all.size() ? std::min(all[at + 1], size) : size;
    const Outcome read = ours_.apply(reading(file, {.offset = all[at], .length = end - all[at]}));
    if (!is_zero(read.bytes))
      return fmt::format("file{}: from {} to {} {} has data: here{}, there{}", file, all[at], end,
                         ours ? "only ours" : "only the kernel's", words(here.data), words(there.data));
    ++allowed_.layouts;
  }
  return "";
}

std::string Pair::look_closely() {
  if (auto wrong = compare_contents(); !wrong.empty()) return wrong;
  for (std::size_t file = 0; file < files_; ++file)
    if (auto wrong = compare_layout(file); !wrong.empty()) return wrong;
  // Once more, from the device.
  return compare_contents();
}

}  // namespace fuse4fs::iomap_model
