// SPDX-License-Identifier: GPL-2.0-or-later
// Small directories inside their inode. Two stretches of entries; "." is not stored, ".." is a bare number.
//
// Locking: any thread that holds the directory's lock, shared to read, exclusive to change.
// Errors: EUCLEAN (told already), ENOSPC, EIO.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "server/ext4/directory_store.h"
#include "server/ext4/inline_data.h"
#include "server/ext4/inode.h"
#include "server/ext4/name_hash.h"

namespace fuse4fs::ext4 {

class InlineDirectory {
 public:
  InlineDirectory(Volume& volume, InlineData& data, DirectoryStore& store, const NameHasher& hasher)
      : volume_(volume), data_(data), store_(store), hasher_(hasher) {}

  // Whether a new one, without content yet, has become one of these: its volume and its inode had room.
  // Writes the inode then.
  Result<bool> make(Inode& directory, InodeNumber parent);
  Result<std::optional<InodeNumber>> find(const Inode& directory, std::string_view name);
  // The name is not there yet. Whether there was room for it. Writes the inode then.
  Result<bool> insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);
  // The name is there. Writes the inode.
  Result<void> remove(Inode& directory, std::string_view name);
  Result<void> replace(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode);
  // All of it becomes one block. Writes the inode.
  Result<void> move_out(Inode& directory);
  // `sink` is called with the directory's lock held. Cookies stay good when it moves out.
  Result<void> list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink);

 private:
  using Bytes = std::vector<std::byte>;
  using Entry = DirectoryEntries::Entry;

  Result<Bytes> read(const Inode& directory);
  [[nodiscard]] std::optional<DirectoryEntries::Found> locate(const Bytes& bytes,
                                                              std::string_view name) const;
  template <class Visit>
  bool each(const Bytes& bytes, Visit visit) const;

  Volume& volume_;
  InlineData& data_;
  DirectoryStore& store_;
  const NameHasher& hasher_;
};

}  // namespace fuse4fs::ext4
