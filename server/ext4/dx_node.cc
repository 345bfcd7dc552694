// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/dx_node.h"

#include <fmt/format.h>

namespace fuse4fs::ext4 {
namespace {

// Lengths are stored in 16 bits: of the largest blocks, as this.
std::uint16_t stored_length(std::size_t length) {
  return length < 65536 ? static_cast<std::uint16_t>(length) : std::uint16_t{65535};
}

}  // namespace

std::size_t DxNode::limit_of(Kind kind, const Format& format) {
  const std::size_t begin = kind == Kind::kRoot ? kRootBegin : kNodeBegin;
  return (format.block_size - begin - (format.checksums ? kTail : 0)) / kEntry;
}

std::string DxNode::judge(const Format& format) const {
  const auto whole = stored_length(format.block_size);
  if (kind_ == Kind::kRoot) {
    // "." of 12 bytes, then ".." up to the block's end.
    const bool dots = load<std::uint16_t>(4) == 12 && load<std::uint8_t>(6) == 1 && load<char>(8) == '.' &&
                      load<std::uint16_t>(16) == stored_length(format.block_size - 12) &&
                      load<std::uint8_t>(18) == 2 && load<char>(20) == '.' && load<char>(21) == '.';
    if (!dots) return "the root of a directory's index without \".\" and \"..\"";
    constexpr std::uint8_t kHalfFlag = 1;
    if (load<std::uint32_t>(kInfoAt) != 0 || load<std::uint8_t>(kInfoLengthAt) != kInfoLength ||
        (load<std::uint8_t>(kFlagsAt) & kHalfFlag) != 0)
      return "a directory's index of an unknown form";
    constexpr std::uint8_t kLastVersion = 2;
    if (hash_version() > kLastVersion)
      return fmt::format("a directory's index with the unknown hash {}", hash_version());
    if (levels() > format.most_levels) return fmt::format("a directory's index of {} levels", levels());
  } else if (load<std::uint32_t>(0) != 0 || load<std::uint16_t>(4) != whole) {
    return "a directory's index leads to what is no node of it";
  }
  if (limit() != limit_of(kind_, format) || count() == 0 || count() > limit())
    return fmt::format("an index node with {} entries in the room of {}", count(), limit());
  for (std::size_t i = 2; i < count(); ++i) {
    if (hash(i) < hash(i - 1) || (hash(i) == hash(i - 1) && (hash(i) & 1) == 0))
      return fmt::format("an index node whose hashes are out of order at {}", i);
  }
  return {};
}

std::size_t DxNode::position_of(std::uint32_t wanted) const {
  std::size_t low = 1;
  std::size_t high = count();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (hash(middle) > wanted)
      high = middle;
    else
      low = middle + 1;
  }
  return low - 1;
}

void DxNodeEditor::make(const Format& format, std::uint32_t block, std::uint8_t version) {
  std::memset(bytes_.data() + begin_, 0, bytes_.size() - begin_);
  if (kind_ == Kind::kRoot) {
    std::memset(bytes_.data() + kInfoAt, 0, kInfoLength);
    store(kVersionAt, version);
    store(kInfoLengthAt, static_cast<std::uint8_t>(kInfoLength));
  } else {
    std::memset(bytes_.data(), 0, kNodeBegin);
    store(4, stored_length(format.block_size));
  }
  store(begin_, static_cast<std::uint16_t>(limit_of(kind_, format)));
  reduce_to(block);
}

void DxNodeEditor::reduce_to(std::uint32_t block) {
  set_count(1);
  set_block(0, block);
}

void DxNodeEditor::insert(std::size_t at, std::uint32_t hash, std::uint32_t block) {
  std::byte* const place = bytes_.data() + begin_ + (at + 1) * kEntry;
  std::memmove(place + kEntry, place, (count() - at - 1) * kEntry);
  store(begin_ + (at + 1) * kEntry, hash);
  set_block(at + 1, block);
  set_count(count() + 1);
}

void DxNodeEditor::take(const DxNode& other, std::size_t first) {
  const std::size_t taken = other.count() - first;
  // The first apart: the counts lie in the place of its hash.
  set_block(0, other.block(first));
  std::memcpy(bytes_.data() + begin_ + kEntry, other.block_.data() + other.begin_ + (first + 1) * kEntry,
              (taken - 1) * kEntry);
  set_count(taken);
}

}  // namespace fuse4fs::ext4
