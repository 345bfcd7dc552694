// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/mapping_cache.h"

#include <algorithm>

namespace fuse4fs::iomap_model {
namespace {

using iomap_abi::Mapping;

bool on_device(const Mapping& mapping) { return mapping.address != iomap_abi::kNullAddress; }

// What is left of a mapping from `begin` to `end`.
Mapping part(const Mapping& mapping, std::uint64_t begin, std::uint64_t end) {
  Mapping out = mapping;
  if (on_device(mapping)) out.address += begin - mapping.offset;
  out.offset = begin;
  out.length = end - begin;
  return out;
}

bool continues(const Mapping& left, const Mapping& right) {
  if (left.type != right.type || left.flags != right.flags || left.device != right.device) return false;
  if (left.offset + left.length != right.offset) return false;
  return on_device(left) ? on_device(right) && left.address + left.length == right.address
                         : !on_device(right);
}

}  // namespace

const Mapping* MappingCache::covering(const Tree& tree, std::uint64_t position) {
  auto next = tree.upper_bound(position);
  if (next == tree.begin()) return nullptr;
  const Mapping& mapping = std::prev(next)->second;
  return position - mapping.offset < mapping.length ? &mapping : nullptr;
}

std::optional<MappingCache::Hit> MappingCache::find(std::uint64_t position, std::uint64_t count) const {
  const std::lock_guard lock(mutex_);
  const Mapping* const read = covering(read_.tree, position);
  if (!read) return std::nullopt;
  const std::uint64_t begin = position / block_size_ * block_size_;
  const std::uint64_t end =
      (position + std::max<std::uint64_t>(count, 1) + block_size_ - 1) / block_size_ * block_size_;
  const auto trimmed = [&](const Mapping& mapping) {
    return part(mapping, std::max(begin, mapping.offset), std::min(end, mapping.offset + mapping.length));
  };
  Hit hit{.read = trimmed(*read), .write = trimmed(*read), .cookie = sequence_};
  hit.write.type = iomap_abi::kPureOverwrite;
  hit.write.address = iomap_abi::kNullAddress;
  hit.write.device = iomap_abi::kNullDevice;
  if (write_.present) {
    const Mapping* const write = covering(write_.tree, position);
    if (!write) return std::nullopt;  // emptied is not absent
    hit.write = trimmed(*write);
  }
  return hit;
}

bool MappingCache::exists() const {
  const std::lock_guard lock(mutex_);
  return exists_;
}

std::uint64_t MappingCache::sequence() const {
  const std::lock_guard lock(mutex_);
  return sequence_;
}

std::vector<Mapping> MappingCache::mappings(Fork fork) const {
  const std::lock_guard lock(mutex_);
  std::vector<Mapping> out;
  for (const auto& [offset, mapping] : fork == Fork::kRead ? read_.tree : write_.tree) out.push_back(mapping);
  return out;
}

bool MappingCache::cut(Tree& tree, std::uint64_t begin, std::uint64_t end) {
  auto at = tree.upper_bound(begin);
  if (at != tree.begin() && std::prev(at)->second.offset + std::prev(at)->second.length > begin) --at;
  bool changed = false;
  while (at != tree.end() && at->second.offset < end) {
    const Mapping old = at->second;
    at = tree.erase(at);
    changed = true;
    if (old.offset < begin) tree.emplace(old.offset, part(old, old.offset, begin));
    if (old.offset + old.length > end) tree.emplace(end, part(old, end, old.offset + old.length));
  }
  return changed;
}

void MappingCache::insert(Tree& tree, Mapping mapping) {
  auto next = tree.lower_bound(mapping.offset);
  if (next != tree.end() && continues(mapping, next->second)) {
    mapping.length += next->second.length;
    next = tree.erase(next);
  }
  if (next != tree.begin() && continues(std::prev(next)->second, mapping)) {
    std::prev(next)->second.length += mapping.length;
    return;
  }
  tree.emplace(mapping.offset, mapping);
}

void MappingCache::drop_whole(ForkState& fork) {
  if (fork.tree.empty()) return;
  fork.tree.clear();
  if (whole_drop_ == WholeDrop::kCounts) ++sequence_;
}

void MappingCache::upsert(Fork which, const Mapping& mapping) {
  const std::lock_guard lock(mutex_);
  exists_ = true;
  if (mapping.type == iomap_abi::kNoCache) return;
  ForkState& fork = state(which);
  if (which == Fork::kWrite && mapping.type == iomap_abi::kPureOverwrite && !fork.present) return;
  fork.present = true;
  if (fork.tree.size() * kRecordSize > max_bytes_) drop_whole(fork);
  cut(fork.tree, mapping.offset, mapping.offset + mapping.length);
  insert(fork.tree, mapping);
  ++sequence_;
}

void MappingCache::invalidate(Fork which, ext4::ByteRange range) {
  if (range.length == 0) return;
  const std::lock_guard lock(mutex_);
  ForkState& fork = state(which);
  if (range.offset == 0 && range.length == iomap_abi::kToEndOfFile) return drop_whole(fork);
  const std::uint64_t end =
      range.length == iomap_abi::kToEndOfFile ? iomap_abi::kToEndOfFile : range.offset + range.length;
  if (cut(fork.tree, range.offset, end)) ++sequence_;
}

void MappingCache::drop() {
  const std::lock_guard lock(mutex_);
  read_ = {};
  write_ = {};
  exists_ = false;
  ++sequence_;
}

}  // namespace fuse4fs::iomap_model
