// SPDX-License-Identifier: GPL-2.0-or-later
// Listing of hashed directories, in the order of the hashes: what is inserted, removed or split meanwhile
// changes no other name's place.
//
// A cookie is where a name lies in that order: its hash (31 bits, and the 32 of the minor hash), counted from
// behind the two dot entries; the one that follows a name is one more. Names of one whole hash are told apart
// by their order. A cookie needs 63 bits: programs with 32-bit offsets see EOVERFLOW, for the kernel does not
// tell a FUSE server who asks.
// Locking: none of its own. Errors: EUCLEAN (told already), EIO; ENOMEM for more
// than kMostOfOneHash names that share their hash.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/ext4/directory_entries.h"
#include "server/ext4/file_system.h"
#include "server/ext4/name_hash.h"

namespace fuse4fs::ext4 {

class HashListing {
 public:
  static constexpr std::size_t kMostOfOneHash = 1'000'000;
  // "." and ".." have the two places before it.
  static constexpr std::uint64_t kFirst = 2;

  HashListing(std::uint64_t cookie, const DirectorySink& sink);

  // "." and ".." come first. Whether the sink wants more, as of the others.
  bool dots(InodeNumber self, InodeNumber parent);
  // The least hash whose names are wanted.
  [[nodiscard]] std::uint32_t first_hash() const { return first_hash_; }

  // What is known of names whose bytes may go before give().
  void add(const NameHash& hash, const DirectoryEntries::Entry& entry);
  [[nodiscard]] std::size_t waiting() const { return names_.size(); }
  // Those that wait, in order; none of them has a name of a hash that others are still to come of.
  Result<bool> give();

 private:
  struct Name {
    std::uint64_t hash;  // of which the minor one is the lower half
    InodeNumber inode;
    std::uint32_t at;  // in text_
    std::uint8_t type;
    std::uint8_t length;
  };
  [[nodiscard]] std::string_view text(const Name& name) const {
    return std::string_view(text_).substr(name.at, name.length);
  }

  const std::uint64_t cookie_;
  const DirectorySink& sink_;
  const std::uint32_t first_hash_;
  std::vector<Name> names_;
  std::string text_;
};

}  // namespace fuse4fs::ext4
