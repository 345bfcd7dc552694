// SPDX-License-Identifier: GPL-2.0-or-later
// The entries of a directory, as they lie in one block or inside an inode: judging, walking, changing them.
//
// Works on bytes in memory alone. What is walked or changed was judged before: a stretch that judge() finds
// nothing wrong with can be walked to its end, whatever else it holds.
// Offsets and lengths in bytes. Locking: none. Errors: none but "no room".
// Format: the kernel's Documentation/filesystems/ext4/directory.rst.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

class Volume;

// Bytes that an entry with a name of this length needs.
constexpr std::size_t entry_length(std::size_t name_length) {
  return (8 + name_length + 3) & ~std::size_t{3};
}

// DT_* of readdir(3) from EXT2_FT_*.
std::uint8_t entry_type(std::uint8_t on_volume);

constexpr bool is_dots(std::string_view name) { return name == "." || name == ".."; }

class DirectoryEntries {
 public:
  struct Entry {
    std::size_t offset = 0;
    std::size_t length = 0;  // to the next
    InodeNumber inode = 0;   // 0: not in use
    std::uint8_t type = 0;   // EXT2_FT_*
    std::string_view name;   // of what is in use
    // Bytes of it that are not to spare.
    [[nodiscard]] std::size_t used() const { return inode == 0 ? 0 : entry_length(name.size()); }
  };
  using Bytes = std::span<const std::byte>;
  using Changing = std::span<std::byte>;

  // What it takes from the volume is the same for as long as that is open.
  explicit DirectoryEntries(const Volume& volume);

  // Where the entries of a block end: with checksums, a tail follows.
  [[nodiscard]] std::size_t end() const { return block_size_ - (checksums_ ? kTail : 0); }
  void put_tail(Changing block) const;
  [[nodiscard]] bool has_tail(Bytes block) const;

  // What is wrong with the entries from `begin` to `end`; empty if nothing.
  [[nodiscard]] std::string judge(Bytes bytes, std::size_t begin, std::size_t end) const;

  [[nodiscard]] Entry at(Bytes bytes, std::size_t offset) const {
    const Header header = header_at(bytes, offset);
    Entry entry{
        offset, decode_length(header.length), header.inode, typed_ ? header.type : std::uint8_t{0}, {}};
    if (header.inode != 0)
      entry.name = {reinterpret_cast<const char*>(bytes.data()) + offset + kHeader, header.name_length};
    return entry;
  }
  // Until `visit` answers false; whether it never did.
  template <class Visit>
  bool each(Bytes bytes, std::size_t begin, std::size_t end, Visit visit) const {
    for (std::size_t at_offset = begin; at_offset < end;) {
      const Entry entry = at(bytes, at_offset);
      at_offset += entry.length;
      if (!visit(entry)) return false;
    }
    return true;
  }
  struct Found {
    Entry entry;
    std::optional<Entry> before;  // its neighbour in the same stretch
  };
  struct Search {
    std::optional<Found> found;
    // Where nothing was found: the first entry behind which the name has room, as insert() would take it. May
    // be missing though there is room in an entry that is not in use.
    std::optional<std::size_t> roomy;
  };
  [[nodiscard]] Search search(Bytes bytes, std::size_t begin, std::size_t end, std::string_view name) const;
  [[nodiscard]] std::optional<Found> find(Bytes bytes, std::size_t begin, std::size_t end,
                                          std::string_view name) const {
    return search(bytes, begin, end, name).found;
  }

  // The first entry with room for one more that is `needed` bytes long.
  [[nodiscard]] std::optional<Entry> find_room(Bytes bytes, std::size_t begin, std::size_t end,
                                               std::size_t needed) const;
  // Takes the slack of an entry that has enough; where the new one went.
  std::size_t insert_behind(Changing bytes, const Entry& roomy, std::string_view name, InodeNumber inode,
                            mode_t mode) const;
  // Takes the slack of the first entry that has enough; where it went, if anywhere.
  std::optional<std::size_t> insert(Changing bytes, std::size_t begin, std::size_t end, std::string_view name,
                                    InodeNumber inode, mode_t mode) const;
  // Its name is not left behind for others to read.
  void remove(Changing bytes, const Found& gone) const;
  // Its name stays.
  void replace(Changing bytes, const Entry& entry, InodeNumber inode, mode_t mode) const;
  void put(Changing bytes, std::size_t offset, std::size_t length, InodeNumber inode, std::string_view name,
           mode_t mode) const;
  void set_length(Changing bytes, std::size_t offset, std::size_t length) const;
  // EXT2_FT_* of what has this mode.
  [[nodiscard]] std::uint8_t type_of(mode_t mode) const;

 private:
  static constexpr std::size_t kHeader = 8;
  static constexpr std::size_t kTail = 12;  // of a block with a checksum
  struct Header {
    std::uint32_t inode;
    std::uint16_t length;
    std::uint8_t name_length;
    std::uint8_t type;  // without the feature filetype, the high byte of the name's length
  };
  static_assert(sizeof(Header) == kHeader);

  static Header header_at(Bytes bytes, std::size_t offset) {
    Header header;
    std::memcpy(&header, bytes.data() + offset, sizeof header);
    return header;
  }
  // 16 bits hold lengths up to 64 KiB: those of blocks that large have two bits of theirs where others have
  // zeros, and the whole block is 65535 or 0.
  [[nodiscard]] std::size_t decode_length(std::uint16_t stored) const {
    if (block_size_ < 65536) return stored;
    if (stored == 65535 || stored == 0) return block_size_;
    return (stored & 65532U) | static_cast<std::size_t>(stored & 3U) << 16;
  }

  [[nodiscard]] std::size_t length_at(Bytes bytes, std::size_t offset) const {
    std::uint16_t stored = 0;
    std::memcpy(&stored, bytes.data() + offset + offsetof(Header, length), sizeof stored);
    return decode_length(stored);
  }

  const Volume& volume_;
  const std::size_t block_size_;
  const bool checksums_;
  const bool typed_;  // entries hold the type of what they lead to
};

}  // namespace fuse4fs::ext4
