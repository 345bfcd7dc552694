// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/extent_node.h"

#include <bit>

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint16_t kLongestWritten = 1 << 15;  // longer ones mean unwritten, minus this
constexpr std::size_t kHeader = sizeof(ext3_extent_header);
constexpr std::size_t kEntry = sizeof(ExtentNode::Entry);
static_assert(kEntry == sizeof(ext3_extent_idx));

std::size_t most_entries(std::size_t bytes) { return (bytes - kHeader) / kEntry; }

}  // namespace

ExtentNode::Entry ExtentNode::entry_of(const Mapping& extent) {
  Entry entry{};
  entry.ee_block = static_cast<std::uint32_t>(extent.logical);
  const auto length = static_cast<std::uint16_t>(extent.count);
  entry.ee_len = extent.kind == Mapping::Kind::kUnwritten
                     ? static_cast<std::uint16_t>(length + kLongestWritten)
                     : length;
  entry.ee_start = static_cast<std::uint32_t>(extent.physical);
  entry.ee_start_hi = static_cast<std::uint16_t>(extent.physical >> 32);
  return entry;
}

ExtentNode::Entry ExtentNode::link_to(std::uint64_t logical, std::uint64_t block) {
  ext3_extent_idx link{};
  link.ei_block = static_cast<std::uint32_t>(logical);
  link.ei_leaf = static_cast<std::uint32_t>(block);
  link.ei_leaf_hi = static_cast<std::uint16_t>(block >> 32);
  return std::bit_cast<Entry>(link);
}

std::string_view ExtentNode::judge_header(std::span<const std::byte> bytes, int depth) {
  ext3_extent_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::size_t room = most_entries(bytes.size());
  // A checksum needs less than an entry; old tools left room for two.
  const bool sound = header.eh_magic == EXT3_EXT_MAGIC && header.eh_max <= room &&
                     header.eh_max + std::size_t{2} >= room && header.eh_entries <= header.eh_max &&
                     header.eh_depth <= kDeepestExtents && (depth < 0 || header.eh_depth == depth) &&
                     (header.eh_depth == 0 || header.eh_entries != 0);
  return sound ? std::string_view() : "a node of the extent tree is damaged";
}

std::string_view ExtentNode::judge_entries(const ExtentNode& node) {
  std::uint64_t behind = 0;
  for (std::size_t i = 0; i < node.entries(); ++i) {
    if (node.logical(i) < behind) return "entries of the extent tree are out of order";
    behind = node.logical(i) + 1;
    if (node.depth() != 0) continue;
    const Mapping extent = node.extent(i);
    if (extent.count == 0 || extent.end() > kExtentBlocks) return "an extent lies where it cannot";
    behind = extent.end();
  }
  return {};
}

Mapping ExtentNode::extent(std::size_t index) const {
  const Entry raw = entry(index);
  const bool unwritten = raw.ee_len > kLongestWritten;
  return {.logical = raw.ee_block,
          .physical = raw.ee_start | std::uint64_t{raw.ee_start_hi} << 32,
          .count = unwritten ? raw.ee_len - std::uint64_t{kLongestWritten} : raw.ee_len,
          .kind = unwritten ? Mapping::Kind::kUnwritten : Mapping::Kind::kWritten};
}

std::uint64_t ExtentNode::child(std::size_t index) const {
  const auto link = std::bit_cast<ext3_extent_idx>(entry(index));
  return link.ei_leaf | std::uint64_t{link.ei_leaf_hi} << 32;
}

std::size_t ExtentNode::behind(std::uint64_t logical_block) const {
  std::size_t low = 0;
  std::size_t high = entries();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (logical(middle) <= logical_block)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void ExtentNodeEdit::initialise(int depth) {
  ext3_extent_header header{};
  header.eh_magic = EXT3_EXT_MAGIC;
  header.eh_max = static_cast<std::uint16_t>(most_entries(bytes_.size()));
  header.eh_depth = static_cast<std::uint16_t>(depth);
  std::memcpy(bytes_.data(), &header, sizeof header);
}

void ExtentNodeEdit::splice(std::size_t index, std::size_t removed,
                            std::span<const ExtentNode::Entry> added) {
  ext3_extent_header header;
  std::memcpy(&header, bytes_.data(), sizeof header);
  std::byte* const at = bytes_.data() + kHeader + index * kEntry;
  const std::size_t rest = header.eh_entries - index - removed;
  std::memmove(at + added.size() * kEntry, at + removed * kEntry, rest * kEntry);
  if (!added.empty()) std::memcpy(at, added.data(), added.size_bytes());
  header.eh_entries = static_cast<std::uint16_t>(index + added.size() + rest);
  std::memcpy(bytes_.data(), &header, sizeof header);
}

void ExtentNodeEdit::set_logical(std::size_t index, std::uint64_t logical) {
  const auto block = static_cast<std::uint32_t>(logical);
  std::memcpy(bytes_.data() + kHeader + index * kEntry, &block, sizeof block);
}

}  // namespace fuse4fs::ext4
