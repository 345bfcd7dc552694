// SPDX-License-Identifier: GPL-2.0-or-later
// An index node of a hashed directory, as it lies in its block: the root (block 0, behind "." and "..") or an
// inner node (behind one unused entry, so that a linear reader sees an empty block).
//
// A node is a row of (hash, block), in the order of the hashes. The first has no hash of its own, but that of
// what leads to the node; the room of it holds how many there are, and may be. A hash with its lowest bit set
// says that names of the same hash (less that bit) lie in the block before as well.
//
// Views of bytes in memory: what is read beyond judge() is bounded, whatever the block holds, after judge()
// found nothing. Locking: none. Format: the kernel's Documentation/filesystems/ext4/directory.rst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace fuse4fs::ext4 {

class DxNode {
 public:
  enum class Kind { kRoot, kNode };
  static constexpr unsigned kMostLevels = 3;  // with the feature large_dir
  // How the volume writes them.
  struct Format {
    std::size_t block_size = 0;
    bool checksums = false;
    unsigned most_levels = 0;  // of nodes over the leaves, the root's among them
  };

  DxNode(std::span<const std::byte> block, Kind kind)
      : block_(block), begin_(kind == Kind::kRoot ? kRootBegin : kNodeBegin), kind_(kind) {}

  // What is wrong with it, empty if nothing: its frame, its counts and the order of its hashes. Not where its
  // blocks lie.
  [[nodiscard]] std::string judge(const Format& format) const;

  [[nodiscard]] std::size_t limit() const { return load<std::uint16_t>(begin_); }
  [[nodiscard]] std::size_t count() const { return load<std::uint16_t>(begin_ + 2); }
  // `i` is not 0.
  [[nodiscard]] std::uint32_t hash(std::size_t i) const { return load<std::uint32_t>(begin_ + i * kEntry); }
  [[nodiscard]] std::uint32_t block(std::size_t i) const {
    return load<std::uint32_t>(begin_ + i * kEntry + 4) & kBlockMask;
  }
  [[nodiscard]] bool is_full() const { return count() >= limit(); }
  // The last entry whose hash is not larger.
  [[nodiscard]] std::size_t position_of(std::uint32_t hash) const;

  // Of the root.
  [[nodiscard]] unsigned levels() const { return load<std::uint8_t>(kLevelsAt) + 1U; }
  [[nodiscard]] std::uint8_t hash_version() const { return load<std::uint8_t>(kVersionAt); }
  [[nodiscard]] std::uint32_t parent() const { return load<std::uint32_t>(kParentAt); }

  // Where the checksum's tail lies, and how many bytes before it are summed.
  [[nodiscard]] std::size_t tail() const { return begin_ + limit() * kEntry; }
  [[nodiscard]] std::size_t summed() const { return begin_ + count() * kEntry; }

  static std::size_t limit_of(Kind kind, const Format& format);

 protected:
  friend class DxNodeEditor;
  static constexpr std::size_t kEntry = 8;
  static constexpr std::size_t kTail = 8;
  static constexpr std::size_t kRootBegin = 32, kNodeBegin = 8;
  // Of the root: the dot entries, and what tells about the tree.
  static constexpr std::size_t kParentAt = 12, kInfoAt = 24, kVersionAt = 28, kInfoLengthAt = 29,
                               kLevelsAt = 30, kFlagsAt = 31, kInfoLength = 8;
  // The rest of a block's number is kept for other uses.
  static constexpr std::uint32_t kBlockMask = 0x0fffffff;

  template <class T>
  [[nodiscard]] T load(std::size_t at) const {
    T value;
    std::memcpy(&value, block_.data() + at, sizeof value);
    return value;
  }

  std::span<const std::byte> block_;
  std::size_t begin_;
  Kind kind_;
};

// The same, to be changed.
class DxNodeEditor : public DxNode {
 public:
  DxNodeEditor(std::span<std::byte> block, Kind kind) : DxNode(block, kind), bytes_(block) {}

  // An empty one of one level, whose first entry leads to `block`. The dot entries of a root are the
  // caller's.
  void make(const Format& format, std::uint32_t block, std::uint8_t hash_version = 0);
  void set_levels(unsigned levels) { store(kLevelsAt, static_cast<std::uint8_t>(levels - 1)); }
  void set_parent(std::uint32_t inode) { store(kParentAt, inode); }
  // Behind position `at`. There is room.
  void insert(std::size_t at, std::uint32_t hash, std::uint32_t block);
  // Its entries become those of `other` from `first` on. There is room.
  void take(const DxNode& other, std::size_t first);
  // Only the first `count` stay.
  void keep(std::size_t count) { set_count(count); }
  // One entry is left, which leads to `block`.
  void reduce_to(std::uint32_t block);

 private:
  template <class T>
  void store(std::size_t at, T value) {
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  void set_count(std::size_t count) { store(begin_ + 2, static_cast<std::uint16_t>(count)); }
  void set_block(std::size_t i, std::uint32_t block) { store(begin_ + i * kEntry + 4, block); }

  std::span<std::byte> bytes_;
};

}  // namespace fuse4fs::ext4
