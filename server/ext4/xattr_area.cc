// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/xattr_area.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kEndMark = sizeof(std::uint32_t);
constexpr std::uint32_t kLargestValue = 1 << 24;  // bytes; what the format's users take for possible
constexpr int kNameShift = 5;
constexpr int kValueShift = 16;
constexpr int kBlockShift = 16;

struct Prefix {
  std::string_view words;
  XattrIndex index;
  bool is_whole_name;
};
constexpr std::array<Prefix, 6> kPrefixes{{
    {"user.", XattrIndex::kUser, false},
    {"trusted.", XattrIndex::kTrusted, false},
    {"security.", XattrIndex::kSecurity, false},
    {"gnu.", XattrIndex::kHurd, false},
    {"system.posix_acl_access", XattrIndex::kAccessAcl, true},
    {"system.posix_acl_default", XattrIndex::kDefaultAcl, true},
}};

constexpr std::size_t padded_entry(std::size_t name_length) {
  return (sizeof(ext2_ext_attr_entry) + name_length + 3) & ~std::size_t{3};
}

bool is_end(std::span<const std::byte> area, std::size_t at) {
  std::uint32_t mark = 0;
  std::memcpy(&mark, area.data() + at, sizeof mark);
  return mark == 0;
}

std::uint32_t hash_name(std::string_view name) {
  std::uint32_t hash = 0;
  for (const char c : name) hash = std::rotl(hash, kNameShift) ^ static_cast<unsigned char>(c);
  return hash;
}

}  // namespace

std::size_t XattrEntry::entry_length() const { return padded_entry(name.size()); }
std::size_t XattrEntry::value_length() const { return value_inode != 0 ? 0 : padded_value(value.size()); }

std::optional<XattrEntries> parse_xattrs(std::span<const std::byte> area, std::size_t first) {
  XattrEntries entries;
  std::vector<std::size_t> offsets;
  std::size_t at = first;
  while (true) {
    if (at + kEndMark > area.size()) return std::nullopt;
    if (is_end(area, at)) break;
    ext2_ext_attr_entry raw;
    if (at + sizeof raw > area.size()) return std::nullopt;
    std::memcpy(&raw, area.data() + at, sizeof raw);
    const std::size_t next = at + padded_entry(raw.e_name_len);
    if (next + kEndMark > area.size()) return std::nullopt;
    const auto* const name = reinterpret_cast<const char*>(area.data()) + at + sizeof raw;
    XattrEntry entry{raw.e_name_index, std::string(name, raw.e_name_len),
                     raw.e_value_inum, raw.e_value_size,
                     raw.e_hash,       {}};
    if (entry.name.find('\0') != std::string::npos || entry.value_size > kLargestValue) return std::nullopt;
    offsets.push_back(raw.e_value_offs);
    entries.push_back(std::move(entry));
    at = next;
  }
  const std::size_t values_begin = at + kEndMark;
  std::size_t taken = values_begin;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    auto& entry = entries[i];
    if (entry.value_inode != 0 || entry.value_size == 0) continue;
    const std::size_t length = padded_value(entry.value_size);
    if (offsets[i] < values_begin || offsets[i] > area.size() || length > area.size() - offsets[i])
      return std::nullopt;
    taken += length;
    const auto value = area.subspan(offsets[i], entry.value_size);
    entry.value.assign(value.begin(), value.end());
  }
  // Values that overlap would not fit when they are laid out again.
  if (taken > area.size()) return std::nullopt;
  return entries;
}

std::size_t length_of_xattrs(const XattrEntries& entries) {
  std::size_t length = kEndMark;
  for (const auto& entry : entries) length += entry.entry_length() + entry.value_length();
  return length;
}

void lay_out_xattrs(const XattrEntries& entries, std::span<std::byte> area, std::size_t first) {
  std::fill(area.begin() + static_cast<std::ptrdiff_t>(first), area.end(), std::byte{0});
  std::size_t at = first;
  std::size_t values = area.size();
  for (const auto& entry : entries) {
    ext2_ext_attr_entry raw{};
    raw.e_name_len = static_cast<std::uint8_t>(entry.name.size());
    raw.e_name_index = entry.index;
    raw.e_value_inum = entry.value_inode;
    raw.e_value_size = entry.value_size;
    raw.e_hash = entry.hash;
    if (entry.value_length() != 0) {
      values -= entry.value_length();
      raw.e_value_offs = static_cast<std::uint16_t>(values);
      std::memcpy(area.data() + values, entry.value.data(), entry.value.size());
    }
    std::memcpy(area.data() + at, &raw, sizeof raw);
    std::memcpy(area.data() + at + sizeof raw, entry.name.data(), entry.name.size());
    at += entry.entry_length();
  }
}

XattrEntries::iterator find_xattr(XattrEntries& entries, const XattrName& name) {
  return std::ranges::find_if(entries, [&](const XattrEntry& entry) { return entry.is(name); });
}

XattrEntries::const_iterator find_xattr(const XattrEntries& entries, const XattrName& name) {
  return std::ranges::find_if(entries, [&](const XattrEntry& entry) { return entry.is(name); });
}

XattrEntries::iterator sorted_place(XattrEntries& entries, const XattrName& name) {
  const auto wanted = std::tuple(static_cast<std::uint8_t>(name.index), name.suffix.size(), name.suffix);
  return std::ranges::find_if(entries, [&](const XattrEntry& entry) {
    return wanted < std::tuple(entry.index, entry.name.size(), std::string_view(entry.name));
  });
}

std::uint32_t hash_of_xattr(std::string_view name, std::span<const std::byte> value) {
  std::uint32_t hash = hash_name(name);
  for (std::size_t at = 0; at < value.size(); at += sizeof hash) {
    std::uint32_t word = 0;
    std::memcpy(&word, value.data() + at, std::min(sizeof word, value.size() - at));
    hash = std::rotl(hash, kValueShift) ^ word;
  }
  return hash;
}

std::uint32_t hash_of_xattr(std::string_view name, std::uint32_t checksum_of_value) {
  return std::rotl(hash_name(name), kValueShift) ^ checksum_of_value;
}

std::uint32_t hash_of_xattrs(const XattrEntries& entries) {
  std::uint32_t hash = 0;
  for (const auto& entry : entries) {
    if (entry.hash == 0) return 0;
    hash = std::rotl(hash, kBlockShift) ^ entry.hash;
  }
  return hash;
}

std::optional<XattrName> split_xattr_name(std::string_view name) {
  for (const auto& prefix : kPrefixes) {
    if (prefix.is_whole_name ? name == prefix.words : name.starts_with(prefix.words))
      return XattrName{prefix.index, name.substr(prefix.words.size())};
  }
  return std::nullopt;
}

std::optional<std::string> full_xattr_name(const XattrEntry& entry) {
  for (const auto& prefix : kPrefixes) {
    if (static_cast<std::uint8_t>(prefix.index) == entry.index) return std::string(prefix.words) + entry.name;
  }
  return std::nullopt;
}

}  // namespace fuse4fs::ext4
