// SPDX-License-Identifier: GPL-2.0-or-later
// The hash by which a directory's index and its listing are ordered.
//
// Locking: none; any thread. Errors: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fuse4fs::ext4 {

class Volume;

struct NameHash {
  std::uint32_t major = 0;  // what the index holds; even
  std::uint32_t minor = 0;  // tells most names of one major apart
  friend auto operator<=>(const NameHash&, const NameHash&) = default;
};

class NameHasher {
 public:
  explicit NameHasher(const Volume& volume) : volume_(volume) {}

  // What new indexes are made with (a number of the format, 0 to 2); none where the volume has no indexes, or
  // names a hash that we do not know.
  [[nodiscard]] std::optional<std::uint8_t> version() const;
  [[nodiscard]] NameHash of(std::string_view name, std::uint8_t version) const;

 private:
  const Volume& volume_;
};

}  // namespace fuse4fs::ext4
