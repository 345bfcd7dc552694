// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace fuse4fs::oracle {
namespace {

Timeline::Nanoseconds nanoseconds(const statx_timestamp& time, const VolumeRules& rules) {
  const timespec stored = comparable_time({time.tv_sec, static_cast<long>(time.tv_nsec)}, rules);
  return Timeline::Nanoseconds{stored.tv_sec} * 1'000'000'000 + stored.tv_nsec;
}
std::string text_of(const statx_timestamp& time) {
  return fmt::format("{}.{:09}", time.tv_sec, time.tv_nsec);
}

std::string hex(std::string_view bytes) {
  constexpr std::size_t kShown = 48;
  std::string text = fmt::format("{} bytes", bytes.size());
  for (const char byte : bytes.substr(0, kShown))
    text += fmt::format(" {:02x}", static_cast<unsigned char>(byte));
  return text + (bytes.size() > kShown ? " ..." : "");
}

Failure differs(std::string category, const auto& first, const auto& second) {
  return {.category = category, .text = fmt::format("{}: {} / {}", category, first, second)};
}

std::optional<Failure> compare_xattrs(const Entry& first, const Entry& second) {
  for (const auto& [name, value] : first.xattrs) {
    const auto other = second.xattrs.find(name);
    if (other == second.xattrs.end()) return differs("xattr " + name, hex(value), "not there");
    if (other->second != value) return differs("xattr " + name, hex(value), hex(other->second));
  }
  for (const auto& [name, value] : second.xattrs)
    if (!first.xattrs.contains(name)) return differs("xattr " + name, "not there", hex(value));
  return std::nullopt;
}

}  // namespace

std::optional<Failure> Comparison::compare_status(const Entry& first, const Entry& second,
                                                  Depth depth) const {
  const auto& a = first.status;
  const auto& b = second.status;
  if (a.stx_mode != b.stx_mode)
    return differs("mode", fmt::format("{:o}", a.stx_mode), fmt::format("{:o}", b.stx_mode));
  if (a.stx_nlink != b.stx_nlink) return differs("nlink", a.stx_nlink, b.stx_nlink);
  if (a.stx_uid != b.stx_uid) return differs("uid", a.stx_uid, b.stx_uid);
  if (a.stx_gid != b.stx_gid) return differs("gid", a.stx_gid, b.stx_gid);
  if (a.stx_rdev_major != b.stx_rdev_major || a.stx_rdev_minor != b.stx_rdev_minor)
    return differs("rdev", fmt::format("{}:{}", a.stx_rdev_major, a.stx_rdev_minor),
                   fmt::format("{}:{}", b.stx_rdev_major, b.stx_rdev_minor));
  if (a.stx_blksize != b.stx_blksize) return differs("blksize", a.stx_blksize, b.stx_blksize);

  const bool exact = timeline_ == nullptr;
  if (exact && a.stx_ino != b.stx_ino) return differs("inode number", a.stx_ino, b.stx_ino);
  const bool size_counts =
      exact || !S_ISDIR(a.stx_mode) || directory_size_counts(a.stx_size, b.stx_size, rules_.block_size);
  if (size_counts && a.stx_size != b.stx_size) return differs("size", a.stx_size, b.stx_size);
  // Delayed allocation: only what was synced is counted for good.
  const bool blocks_count = size_counts && !(rules_.mapped_ahead && S_ISREG(a.stx_mode));
  if (blocks_count && depth == Depth::kWhole) {
    const auto [low, high] = std::minmax(a.stx_blocks, b.stx_blocks);
    if (high - low > (exact ? 0 : sector_tolerance(first, second, rules_)))
      return differs("blocks", a.stx_blocks, b.stx_blocks);
  }

  if ((a.stx_mask & STATX_BTIME) != (b.stx_mask & STATX_BTIME))
    return differs("btime", (a.stx_mask & STATX_BTIME) != 0 ? "known" : "unknown",
                   (b.stx_mask & STATX_BTIME) != 0 ? "known" : "unknown");
  const std::array<std::tuple<const char*, statx_timestamp, statx_timestamp>, 4> times = {{
      {"mtime", a.stx_mtime, b.stx_mtime},
      {"ctime", a.stx_ctime, b.stx_ctime},
      {"atime", a.stx_atime, b.stx_atime},
      {"btime", a.stx_btime, b.stx_btime},
  }};
  const bool unsure = unsure_[0].contains(a.stx_ino) || unsure_[1].contains(b.stx_ino);
  for (const auto& [name, one, two] : times) {
    if (unsure && std::string_view(name) == "ctime") continue;
    const auto a_time = nanoseconds(one, rules_), b_time = nanoseconds(two, rules_);
    const bool same = exact ? a_time == b_time : timeline_->match(a_time, b_time, rules_.granularity);
    if (same) continue;
    if (exact) return differs(name, text_of(one), text_of(two));
    const auto placed = [this](int image, const statx_timestamp& time, Timeline::Nanoseconds value) {
      return fmt::format("{} ({})", text_of(time), timeline_->place_of(image, value));
    };
    return differs(name, placed(0, one, a_time), placed(1, two, b_time));
  }
  return std::nullopt;
}

std::optional<Failure> Comparison::compare_contents(const Entry& first, const Entry& second) const {
  const auto flags = [this](const Entry& entry) {
    return timeline_ == nullptr ? entry.flags.value_or(0)
                                : comparable_flags(entry.flags.value_or(0), entry.status.stx_mode);
  };
  if (flags(first) != flags(second))
    return differs("flags", fmt::format("{:#x}", flags(first)), fmt::format("{:#x}", flags(second)));
  if (first.project != second.project)
    return differs("project", first.project.value_or(0), second.project.value_or(0));
  const bool same_edges = timeline_ == nullptr
                              ? first.edges == second.edges
                              : comparable_edges(first, rules_) == comparable_edges(second, rules_);
  if (!same_edges)
    return differs("holes", fmt::format("data,hole at {}", fmt::join(first.edges, ",")),
                   fmt::format("data,hole at {}", fmt::join(second.edges, ",")));
  if (first.content != second.content) {
    const auto [one, two] = std::ranges::mismatch(first.content, second.content);
    const auto at = static_cast<std::size_t>(one - first.content.begin());
    return differs("content", fmt::format("byte {} of the data: {}", at, hex(first.content.substr(at, 16))),
                   hex(second.content.substr(at, 16)));
  }
  return std::nullopt;
}

std::optional<Failure> Comparison::compare(const std::string& path, const std::optional<Entry>& first,
                                           const std::optional<Entry>& second, Depth depth) const {
  std::optional<Failure> failure;
  if (!first || !second) {
    if (first.has_value() == second.has_value()) return std::nullopt;
    failure = differs("existence", first ? "there" : "not there", second ? "there" : "not there");
  } else if (first->trouble != second->trouble) {
    failure = differs("readable", first->trouble, second->trouble);
  } else if (first->target != second->target) {
    failure = differs("target", first->target, second->target);
  } else {
    failure = compare_status(*first, *second, depth);
    if (!failure) failure = compare_xattrs(*first, *second);
    if (!failure && depth == Depth::kWhole) failure = compare_contents(*first, *second);
  }
  if (failure) failure->text = fmt::format("{}: {}", path, failure->text);
  return failure;
}

std::optional<Failure> Comparison::compare(const Tree& first, const Tree& second, Depth depth) const {
  std::map<std::uint64_t, std::uint64_t>
      inodes;  // of hard links: the same names share an inode on both sides
  for (const auto& [path, entry] : first) {
    const auto other = second.find(path);
    if (auto failure =
            compare(path, entry, other == second.end() ? std::nullopt : std::optional(other->second), depth))
      return failure;
    const auto [known, added] = inodes.emplace(entry.status.stx_ino, other->second.status.stx_ino);
    if (known->second != other->second.status.stx_ino)
      return Failure{.category = "hard links",
                     .text = path + ": not the same file as its other name, on one side"};
  }
  for (const auto& [path, entry] : second)
    if (!first.contains(path)) return compare(path, std::nullopt, entry, depth);
  return std::nullopt;
}

}  // namespace fuse4fs::oracle
