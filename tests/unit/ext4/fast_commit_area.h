// SPDX-License-Identifier: GPL-2.0-or-later
// Writes a fast-commit area, as the kernel does: for tests of what reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

class FastCommitArea {
 public:
  static constexpr std::uint16_t kCreate = 3, kLink = 4, kUnlink = 5;

  explicit FastCommitArea(std::size_t block_size) : block_size_(block_size) {}

  void head(std::uint32_t tid) { put(9, number(0) + number(tid)); }
  // `length` as it is stored: more than 0x8000 means unwritten.
  void add_range(std::uint32_t inode, std::uint32_t logical, std::uint64_t physical, unsigned length) {
    put(1, number(inode) + number(logical) +
               number(length | static_cast<std::uint32_t>(physical >> 32) << 16) +
               number(static_cast<std::uint32_t>(physical)));
  }
  void delete_range(std::uint32_t inode, std::uint32_t logical, std::uint32_t count) {
    put(2, number(inode) + number(logical) + number(count));
  }
  void name(std::uint16_t kind, std::uint32_t parent, std::uint32_t inode, std::string_view name) {
    put(kind, number(parent) + number(inode) + std::string(name));
  }
  void inode(std::uint32_t inode, std::string_view bytes) { put(6, number(inode) + std::string(bytes)); }
  void tail(std::uint32_t tid) {
    make_room(4 + 8);
    if (first_tail_ == 0) first_tail_ = bytes_.size();
    const std::size_t rest = block_size_ - bytes_.size() % block_size_ - 4;
    append(header(8, rest) + number(tid));
    append(number(crc_), Checksum::kSkip);
    append(std::string(rest - 8, '\0'), Checksum::kSkip);
    crc_ = 0;
  }

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
  [[nodiscard]] std::size_t first_tail() const { return first_tail_; }
  // Whatever the checksum says.
  void poke(std::size_t at, std::string_view bytes) {
    std::memcpy(bytes_.data() + at, bytes.data(), bytes.size());
  }

 private:
  enum class Checksum { kCount, kSkip };

  static std::string number(std::uint32_t value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  }
  static std::string header(std::uint16_t kind, std::size_t length) {
    return number(kind | static_cast<std::uint32_t>(length) << 16);
  }
  void put(std::uint16_t kind, const std::string& value) {
    make_room(4 + value.size());
    append(header(kind, value.size()) + value);
  }
  // A record lies in one block, and leaves room for the padding behind it.
  void make_room(std::size_t length) {
    const std::size_t left = block_size_ - bytes_.size() % block_size_;
    if (length + 4 <= left) return;
    append(header(7, left - 4) + std::string(left - 4, '\0'));
  }
  void append(const std::string& bytes, Checksum checksum = Checksum::kCount) {
    if (checksum == Checksum::kCount)
      crc_ = ext2fs_crc32c_le(crc_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    const auto raw = std::as_bytes(std::span(bytes));
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }

  std::size_t block_size_;
  std::size_t first_tail_ = 0;
  std::uint32_t crc_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace fuse4fs::ext4
