// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes as they lie in an inode or in a block of their own: a list of entries from the front,
// their values from the end.
//
// Pure functions over bytes. Offsets in the entries count from the beginning of the area: behind the mark in
// an inode, at the header of a block.
// Format: Documentation/filesystems/ext4/attributes.rst.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fuse4fs::ext4 {

// What stands in the entry for the prefix of a name.
enum class XattrIndex : std::uint8_t {
  kUser = 1,
  kAccessAcl = 2,
  kDefaultAcl = 3,
  kTrusted = 4,
  kSecurity = 6,
  kSystem = 7,
  kHurd = 10,
};

struct XattrName {
  XattrIndex index{};
  std::string_view suffix;  // what follows the prefix; at most 255 bytes
};

inline constexpr XattrName kCapabilityXattr{XattrIndex::kSecurity, "capability"};
// Content of a file or directory that lies inside its inode: no user sees it as an attribute.
inline constexpr XattrName kInlineDataXattr{XattrIndex::kSystem, "data"};
inline constexpr XattrName kAccessAclXattr{XattrIndex::kAccessAcl, ""};
inline constexpr XattrName kDefaultAclXattr{XattrIndex::kDefaultAcl, ""};

struct XattrEntry {
  std::uint8_t index = 0;
  std::string name;  // without the prefix
  // 0: `value` is the value. Otherwise an inode holds it (feature ea_inode).
  std::uint32_t value_inode = 0;
  std::uint32_t value_size = 0;  // bytes
  std::uint32_t hash = 0;
  std::vector<std::byte> value;

  [[nodiscard]] bool is(const XattrName& other) const {
    return index == static_cast<std::uint8_t>(other.index) && name == other.suffix;
  }
  // What it takes of an area, for its name and for its value.
  [[nodiscard]] std::size_t entry_length() const;
  [[nodiscard]] std::size_t value_length() const;
  bool operator==(const XattrEntry&) const = default;
};

using XattrEntries = std::vector<XattrEntry>;

constexpr std::size_t padded_value(std::size_t length) { return (length + 3) & ~std::size_t{3}; }

// `first` is where the entries begin: 0 in an inode, behind the header in a block.
// Nothing if the area is malformed: names or values that leave it or overlap, no end of the list.
std::optional<XattrEntries> parse_xattrs(std::span<const std::byte> area, std::size_t first);

// How many bytes of an area they take, with the mark of their end.
std::size_t length_of_xattrs(const XattrEntries& entries);
// Fills all of `area` behind `first`. They must fit: first + length_of_xattrs() bytes.
void lay_out_xattrs(const XattrEntries& entries, std::span<std::byte> area, std::size_t first);

// Where the name is, or the end.
XattrEntries::iterator find_xattr(XattrEntries& entries, const XattrName& name);
XattrEntries::const_iterator find_xattr(const XattrEntries& entries, const XattrName& name);
// Where a new one belongs in a block, whose entries are sorted.
XattrEntries::iterator sorted_place(XattrEntries& entries, const XattrName& name);

// The hashes of the format: of a name with its value (or with the checksum of one that has an inode), and of
// all entries of a block. 0 as the latter means that the block is not to be shared.
std::uint32_t hash_of_xattr(std::string_view name, std::span<const std::byte> value);
std::uint32_t hash_of_xattr(std::string_view name, std::uint32_t checksum_of_value);
std::uint32_t hash_of_xattrs(const XattrEntries& entries);

// Between the names of the system calls and these. What has no prefix of ours is nothing (EOPNOTSUPP), a
// prefix alone has an empty suffix (EINVAL, but for ACLs, which have none).
std::optional<XattrName> split_xattr_name(std::string_view name);
// Nothing for what no user sees.
std::optional<std::string> full_xattr_name(const XattrEntry& entry);

}  // namespace fuse4fs::ext4
