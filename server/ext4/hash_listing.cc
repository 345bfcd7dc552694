// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/hash_listing.h"

#include <algorithm>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

// Of a leaf of 4 KiB: no more memory is asked for, unless many names share a hash.
constexpr std::size_t kNames = 256;
constexpr std::size_t kText = 4096;

// The lowest bit of a hash is always 0, and has no place in a cookie.
std::uint32_t hash_of(std::uint64_t cookie) {
  return cookie < HashListing::kFirst ? 0
                                      : static_cast<std::uint32_t>((cookie - HashListing::kFirst) >> 32) << 1;
}
std::uint64_t place_of(std::uint64_t hash) {
  return HashListing::kFirst + ((hash >> 33) << 32 | static_cast<std::uint32_t>(hash));
}

}  // namespace

HashListing::HashListing(std::uint64_t cookie, const DirectorySink& sink)
    : cookie_(cookie), sink_(sink), first_hash_(hash_of(cookie)) {
  names_.reserve(kNames);
  text_.reserve(kText);
}

bool HashListing::dots(InodeNumber self, InodeNumber parent) {
  if (cookie_ == 0 && !sink_({".", self, entry_type(EXT2_FT_DIR), 1})) return false;
  return cookie_ > 1 || sink_({"..", parent, entry_type(EXT2_FT_DIR), kFirst});
}

void HashListing::add(const NameHash& hash, const DirectoryEntries::Entry& entry) {
  names_.push_back({std::uint64_t{hash.major} << 32 | hash.minor, entry.inode,
                    static_cast<std::uint32_t>(text_.size()), entry.type,
                    static_cast<std::uint8_t>(entry.name.size())});
  text_ += entry.name;
}

Result<bool> HashListing::give() {
  std::sort(names_.begin(), names_.end(), [&](const Name& a, const Name& b) {
    return a.hash != b.hash ? a.hash < b.hash : text(a) < text(b);
  });
  bool more = true;
  std::uint64_t next = 0;
  for (auto name = names_.begin(); more && name != names_.end(); ++name) {
    if (name != names_.begin() && text(*std::prev(name)) == text(*name)) return fail(kCorrupted);
    const std::uint64_t place = std::max(place_of(name->hash), next);
    next = place + 1;
    if (place >= cookie_) more = sink_({text(*name), name->inode, entry_type(name->type), next});
  }
  names_.clear();
  text_.clear();
  return more;
}

}  // namespace fuse4fs::ext4
