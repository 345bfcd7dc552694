// SPDX-License-Identifier: GPL-2.0-or-later
// In which group a new inode is to lie: directories as Orlov's allocator places them, all else near its
// directory. It goes by the groups' figures, and takes nothing.
//
// Facts: the kernel's fs/ext4/ialloc.c. Where groups form flex groups, these are what is looked at, and
// inodes lie close together at the beginning of one. Unlike there, the search for a top directory's group
// begins with the first one, not where a hash of its name says: of equals the first is taken.
//
// Cost: a look at one flex group, or one group and as many more as are full. For a top directory, and where
// all near ones are full, at all of them.
//
// Locking: any thread. What it goes by may be a moment old. Errors: none.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "server/ext4/file_system.h"
#include "server/ext4/group_descriptors.h"

namespace fuse4fs::ext4 {

class Volume;

class OrlovAllocator {
 public:
  // Outlives it.
  explicit OrlovAllocator(Volume& volume);

  // Of a directory of the root, or of one with the flag for that (chattr +T).
  [[nodiscard]] GroupNumber group_of_top_directory(InodeNumber parent);
  [[nodiscard]] GroupNumber group_of_directory(InodeNumber parent);
  [[nodiscard]] GroupNumber group_of_file(InodeNumber parent);

 private:
  // Sums over the groups of a flex group.
  struct Figures {
    std::uint64_t free_inodes = 0, free_clusters = 0, directories = 0;
  };
  // A flex group by its number, from 0 on.
  [[nodiscard]] Figures figures_of(std::uint64_t flex_group) const;
  // Its first one with a free inode.
  [[nodiscard]] std::optional<GroupNumber> first_with_inodes(std::uint64_t flex_group) const;
  [[nodiscard]] GroupNumber group_near(InodeNumber parent);
  [[nodiscard]] GroupNumber fallback(InodeNumber parent) const;
  [[nodiscard]] GroupNumber group_of_file_without_flex(InodeNumber parent) const;
  [[nodiscard]] GroupNumber group_of(InodeNumber inode) const;

  // Where a directory's own flex group is full, the next inode begins where the last one got its place. As
  // memory: of several directories that share an entry one is remembered.
  class LastGroups {
   public:
    [[nodiscard]] std::optional<GroupNumber> find(InodeNumber parent) const {
      const std::uint64_t entry = entry_of(parent).load(std::memory_order_relaxed);
      if (entry >> 32 != parent) return std::nullopt;
      return static_cast<GroupNumber>(entry);
    }
    GroupNumber note(InodeNumber parent, GroupNumber group) {
      entry_of(parent).store(std::uint64_t{parent} << 32 | group, std::memory_order_relaxed);
      return group;
    }

   private:
    [[nodiscard]] const std::atomic<std::uint64_t>& entry_of(InodeNumber parent) const {
      return entries_[parent % entries_.size()];
    }
    [[nodiscard]] std::atomic<std::uint64_t>& entry_of(InodeNumber parent) {
      return entries_[parent % entries_.size()];
    }
    std::array<std::atomic<std::uint64_t>, 1024> entries_{};
  };

  Volume& volume_;
  GroupDescriptors& groups_;
  const std::uint64_t flex_size_;    // groups
  const std::uint64_t flex_groups_;  // how many
  LastGroups last_;
};

}  // namespace fuse4fs::ext4
