// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/hash_listing.h"

#include <algorithm>
#include <tuple>

#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

bool HashListing::dots(InodeNumber self, InodeNumber parent) {
  if (cookie_ == 0 && !sink_({".", self, entry_type(EXT2_FT_DIR), 1})) return false;
  return cookie_ > 1 || sink_({"..", parent, entry_type(EXT2_FT_DIR), kFirst});
}

std::uint32_t HashListing::first_hash() const {
  // The lowest bit of a hash is always 0, and has no place in a cookie.
  return cookie_ < kFirst ? 0 : static_cast<std::uint32_t>((cookie_ - kFirst) >> 32) << 1;
}

void HashListing::add(const NameHash& hash, const DirectoryEntries::Entry& entry) {
  names_.push_back(
      {hash, entry.inode, entry.type, static_cast<std::uint8_t>(entry.name.size()), text_.size()});
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
    const std::uint64_t place =
        std::max(kFirst + (std::uint64_t{name->hash.major >> 1} << 32 | name->hash.minor), next);
    next = place + 1;
    if (place >= cookie_) more = sink_({text(*name), name->inode, entry_type(name->type), next});
  }
  names_.clear();
  text_.clear();
  return more;
}

}  // namespace fuse4fs::ext4
