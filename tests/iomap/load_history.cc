// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/load_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "base/zeros.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

using Kind = FileChange::Kind;

// The part of the change that lies within a file of this size.
ByteRange part_within(const FileChange& change, std::uint64_t size) {
  if (change.range.offset >= size) return {};
  const std::uint64_t most = size - change.range.offset;
  return {.offset = change.range.offset,
          .length = change.kind == Kind::kResize ? most : std::min(most, change.range.length)};
}

std::uint64_t end_of(const FileChange& change) { return change.range.offset + change.range.length; }

}  // namespace

std::size_t LoadHistory::making(const std::string& name) {
  const Moment now = now_();
  const std::lock_guard lock(mutex_);
  files_.push_back({.name = name, .made_moment = now, .changes = {}});
  return files_.size() - 1;
}

void LoadHistory::made(std::size_t file, std::uint64_t inode) {
  const std::lock_guard lock(mutex_);
  files_[file].inode = inode;
}

std::size_t LoadHistory::latest(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  for (std::size_t file = files_.size(); file-- > 0;)
    if (files_[file].name == name) return file;
  throw std::out_of_range(name);
}

LoadHistory::Place LoadHistory::begins(std::size_t file, const FileChange& change) {
  const Moment now = now_();
  const std::lock_guard lock(mutex_);
  auto& changes = files_[file].changes;
  changes.push_back({.what = change, .begin = ++clock_, .begin_moment = now});
  return {.file = file, .change = changes.size() - 1};
}

void LoadHistory::ended(Place place, Outcome outcome) {
  const Moment now = now_();
  const std::lock_guard lock(mutex_);
  auto& change = files_[place.file].changes[place.change];
  change.end = ++clock_;
  change.end_moment = now;
  const bool is_promise = change.what.kind != Kind::kSync || options_.syncs == Syncs::kPromise;
  change.is_certain = is_promise && outcome == Outcome::kDone;
}

const LoadHistory::Change* LoadHistory::last_sync(const File& file, Moment cut) {
  const Change* last = nullptr;
  for (const auto& change : file.changes) {
    if (change.what.kind != Kind::kSync || !change.is_certain || change.end_moment > cut) continue;
    if (last == nullptr || change.begin > last->begin) last = &change;
  }
  return last;
}

std::size_t LoadHistory::files_promised_at(Moment cut) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(files_, [&](const File& file) { return promised(file, cut, 0).has_value(); }));
}

LoadHistory::SizeLimits LoadHistory::size_limits(const File& file, Moment cut) {
  const Change* const sync = last_sync(file, cut);
  const std::uint64_t synced = sync != nullptr ? sync->begin : 0;
  // The size that the last truncation before the sync gave, and what came beside it or later.
  const Change* base = nullptr;
  for (const auto& change : file.changes)
    if (change.what.kind == Kind::kResize && change.had_ended(synced) &&
        (base == nullptr || change.begin > base->begin))
      base = &change;
  const std::uint64_t since = base != nullptr ? base->begin : 0;
  SizeLimits limits;
  limits.least = limits.most = base != nullptr ? base->what.range.offset : 0;
  for (const auto& change : file.changes) {
    if (&change == base || change.begin_moment >= cut || change.end <= since || !change.what.grows())
      continue;
    limits.most = std::max(limits.most, end_of(change.what));
    const bool is_behind_base = base == nullptr || change.begin >= base->end;
    if (is_behind_base && change.had_ended(synced))
      limits.least = std::max(limits.least, end_of(change.what));
  }
  for (const auto& change : file.changes) {
    if (&change == base || change.begin_moment >= cut || change.end <= since) continue;
    if (change.what.kind != Kind::kResize) continue;
    limits.least = std::min(limits.least, change.what.range.offset);
    limits.most = std::max(limits.most, change.what.range.offset);
  }
  return limits;
}

std::optional<LoadHistory::Replaced> LoadHistory::promised(const File& file, Moment cut, std::size_t size) {
  const Change* const sync = last_sync(file, cut);
  if (sync == nullptr) return std::nullopt;
  std::uint64_t end = size;
  for (const auto& change : file.changes)
    if (change.what.kind == Kind::kWrite) end = std::max(end, end_of(change.what));
  Replaced replaced(end, 0);
  std::vector<Kind> kinds(end, Kind::kZero);
  for (const auto& change : file.changes) {
    if (!change.had_ended(sync->begin) || !change.what.has_content()) continue;
    const ByteRange part = part_within(change.what, end);
    for (std::uint64_t at = part.offset; at < part.offset + part.length; ++at) {
      if (replaced[at] > change.begin) continue;
      replaced[at] = change.begin;
      kinds[at] = change.what.kind;
    }
  }
  for (const auto& change : file.changes) {
    if (change.end <= sync->begin || change.begin_moment >= cut || change.what.kind == Kind::kSync) continue;
    if (change.what.kind != Kind::kWrite) return std::nullopt;
    const auto begin = kinds.begin() + static_cast<std::ptrdiff_t>(change.what.range.offset);
    const auto behind = begin + static_cast<std::ptrdiff_t>(change.what.range.length);
    if (std::any_of(begin, behind, [](Kind kind) { return kind != Kind::kWrite; })) return std::nullopt;
  }
  return replaced;
}

std::optional<std::string> LoadHistory::judge_bytes(const File& file, Moment cut,
                                                    std::span<const std::byte> bytes,
                                                    const Replaced& replaced) {
  std::vector<bool> explained(bytes.size(), false);
  for (std::size_t at = 0; at < bytes.size(); ++at)
    if (bytes[at] == std::byte{0} && replaced[at] == 0) explained[at] = true;
  for (const auto& change : file.changes) {
    if (!change.what.has_content() || change.begin_moment >= cut) continue;
    const ByteRange part = part_within(change.what, bytes.size());
    const auto made = change.what.kind == Kind::kWrite ? pattern(change.what.key, part.offset, part.length)
                                                       : std::vector<std::byte>(part.length);
    for (std::uint64_t at = 0; at < part.length; ++at)
      if (bytes[part.offset + at] == made[at] && change.end > replaced[part.offset + at])
        explained[part.offset + at] = true;
  }
  const auto wrong = std::ranges::find(explained, false);
  if (wrong == explained.end()) return std::nullopt;
  const auto first = static_cast<std::size_t>(wrong - explained.begin());
  const auto count = std::ranges::count(explained, false);
  std::string bytes_there;
  for (const std::byte byte : bytes.subspan(first).first(std::min<std::size_t>(16, bytes.size() - first)))
    bytes_there += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return fmt::format("{} bytes of {} that nobody wrote there or that were replaced, the first at {}: {}{}",
                     count, bytes.size(), first, bytes_there, story(file, cut, first));
}

std::string LoadHistory::story(const File& file, Moment cut, std::uint64_t at) {
  const Change* const sync = last_sync(file, cut);
  std::string words;
  for (const auto& change : file.changes) {
    const auto& what = change.what;
    const bool is_here = part_within(what, at + 1).length != 0 && end_of(what) > at;
    const bool is_there = what.kind == Kind::kResize || is_here || &change == sync;
    if (!is_there || change.begin_moment >= cut) continue;
    constexpr std::string_view kNames[] = {"write",  "zero", "zero and grow", "grow",
                                           "resize", "sync", "unlink"};
    words += fmt::format("\n    {} {}+{} key {:x}, time {} to {}, operation {} to {}{}",
                         kNames[static_cast<std::size_t>(what.kind)], what.range.offset, what.range.length,
                         what.key, change.begin, change.end, change.begin_moment, change.end_moment,
                         change.is_certain ? "" : ", perhaps");
  }
  return words;
}

std::optional<std::string> LoadHistory::judge(const File& file, Moment cut, const FoundFile& found,
                                              const Mended& mended) const {
  const auto promise = promised(file, cut, found.bytes.size() + found.behind.size());
  SizeLimits limits = size_limits(file, cut);
  if (!promise) limits.least = 0;
  const Ends ends = !promise && mended.ends_moved.contains(file.inode) ? Ends::kLoose : options_.ends;
  const std::uint64_t size = found.bytes.size();
  if (size < limits.least || (ends == Ends::kExact && size > limits.most))
    return fmt::format("size {}, between {} and {} expected", size, limits.least, limits.most);
  const Replaced nothing(size + found.behind.size(), 0);
  if (auto wrong = judge_bytes(file, cut, found.bytes, promise ? *promise : nothing)) return wrong;
  if (is_zero(found.behind)) return std::nullopt;
  if (ends == Ends::kExact) return fmt::format("not only zeros behind its end at {}", size);
  auto longer = found.bytes;
  longer.insert(longer.end(), found.behind.begin(), found.behind.end());
  return judge_bytes(file, cut, longer, nothing);
}

bool LoadHistory::may_be_cleared(const File& file, Moment cut, const Mended& mended) {
  return mended.cleared.contains(file.inode) && !promised(file, cut, 0);
}

void LoadHistory::judge_name(const std::string& name, Moment cut, const FoundFiles& found,
                             const Mended& mended, std::vector<std::string>& lines) const {
  // Those from the last one on that was synced.
  std::vector<const File*> possible;
  bool may_be_missing = true;
  for (const auto& file : files_) {
    if (file.name != name || file.made_moment >= cut) continue;
    if (last_sync(file, cut) != nullptr) {
      possible.clear();
      may_be_missing = false;
    }
    possible.push_back(&file);
    may_be_missing |= std::ranges::any_of(file.changes, [&](const Change& change) {
      return change.what.kind == Kind::kUnlink && change.begin_moment < cut;
    });
    may_be_missing |= may_be_cleared(file, cut, mended);
  }
  const auto there = found.find(name);
  if (there == found.end()) {
    if (!may_be_missing) lines.push_back(fmt::format("{} is gone", name));
    return;
  }
  std::string words =
      fmt::format("{} is inode {}, which it never was or is not any more", name, there->second.inode);
  for (const File* file : possible) {
    if (file->inode != there->second.inode) continue;
    const auto wrong = judge(*file, cut, there->second, mended);
    if (!wrong) return;
    words = fmt::format("{} (inode {}{}): {}", name, file->inode,
                        last_sync(*file, cut) != nullptr ? ", synced" : "", *wrong);
  }
  lines.push_back(words);
}

std::vector<std::string> LoadHistory::broken(Moment cut, const FoundFiles& found,
                                             const Mended& mended) const {
  std::set<std::string> names;
  for (const auto& file : files_) names.insert(file.name);
  std::vector<std::string> lines;
  for (const auto& name : names) judge_name(name, cut, found, mended, lines);
  return lines;
}

}  // namespace fuse4fs::iomap_model
