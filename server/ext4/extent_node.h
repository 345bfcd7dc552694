// SPDX-License-Identifier: GPL-2.0-or-later
// One node of an extent tree as it lies in a block, or in an inode's i_block: a header, entries of twelve
// bytes, and in a block the checksum behind the last possible entry.
//
// Leaves hold extents, other nodes links to nodes; both kinds of entries begin with the first logical block
// that they speak of, and lie in its order.
// Values and views, no lock of their own. Errors: words, empty where nothing is wrong.
// Format: Documentation/filesystems/ext4/ifork.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "server/ext4/ext2.h"
#include "server/ext4/mapping.h"

namespace fuse4fs::ext4 {

// Nodes above a leaf, the root included: what 2^32 blocks need with the smallest nodes.
constexpr int kDeepestExtents = 5;
// Logical blocks have 32 bits.
constexpr std::uint64_t kExtentBlocks = std::uint64_t{1} << 32;

// In blocks. The format stores the kind in the length: an unwritten one has a block less.
constexpr std::uint64_t longest_extent(Mapping::Kind kind) {
  constexpr std::uint64_t kLongestWritten = 1 << 15;
  return kind == Mapping::Kind::kUnwritten ? kLongestWritten - 1 : kLongestWritten;
}

class ExtentNode {
 public:
  using Entry = ext3_extent;  // links lie in the same bytes
  static Entry entry_of(const Mapping& extent);
  static Entry link_to(std::uint64_t logical, std::uint64_t block);

  // The header is what a node of this size may have (-1: of any depth): entries() can be asked then.
  static std::string_view judge_header(std::span<const std::byte> bytes, int depth);
  // The entries, too: in order, and each within what its kind can hold. Where they point is the caller's to
  // judge.
  static std::string_view judge_entries(const ExtentNode& node);

  // Of a header that was judged.
  explicit ExtentNode(std::span<const std::byte> bytes) : bytes_(bytes) {
    std::memcpy(&header_, bytes.data(), sizeof header_);
  }

  [[nodiscard]] int depth() const { return header_.eh_depth; }  // 0: a leaf
  [[nodiscard]] std::size_t entries() const { return header_.eh_entries; }
  [[nodiscard]] std::size_t room() const { return header_.eh_max; }  // for entries
  [[nodiscard]] std::uint64_t logical(std::size_t index) const { return entry(index).ee_block; }
  [[nodiscard]] Mapping extent(std::size_t index) const;
  [[nodiscard]] std::uint64_t child(std::size_t index) const;
  [[nodiscard]] Entry entry(std::size_t index) const {
    Entry entry;
    std::memcpy(&entry, bytes_.data() + sizeof header_ + index * sizeof entry, sizeof entry);
    return entry;
  }
  // The number of entries that begin at or before `logical`.
  [[nodiscard]] std::size_t behind(std::uint64_t logical) const;
  // Where the checksum lies, in bytes; what is before it is summed.
  [[nodiscard]] std::size_t checksum_offset() const { return sizeof header_ + room() * sizeof(Entry); }

 private:
  std::span<const std::byte> bytes_;
  ext3_extent_header header_{};
};

// The same bytes, to be changed.
class ExtentNodeEdit {
 public:
  explicit ExtentNodeEdit(std::span<std::byte> bytes) : bytes_(bytes) {}
  // An empty one with all the room there is.
  void initialise(int depth);
  // `added` take the place of `removed` entries from `index` on. There is room.
  void splice(std::size_t index, std::size_t removed, std::span<const ExtentNode::Entry> added);
  void set_logical(std::size_t index, std::uint64_t logical);

 private:
  std::span<std::byte> bytes_;
};

}  // namespace fuse4fs::ext4
