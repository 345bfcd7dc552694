// SPDX-License-Identifier: GPL-2.0-or-later
// Which inodes are free.
//
// Numbers that were freed lately are free, but not to be had yet (unreleased.h).
//
// Locking: any thread; takes Volume::library(), but for in_use() of one that was asked for lately: a look-up
// does not wait for whoever changes a map. Errors: ENOSPC.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "base/result.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

class InodeAllocator {
 public:
  explicit InodeAllocator(Volume& volume) : volume_(volume) {}

  // Files go to their directory's group. Directories of the root are spread over the volume, so that trees
  // that grow apart do not mix.
  Result<InodeNumber> take(InodeNumber parent, mode_t mode);
  // This one, which is free.
  void take_this(InodeNumber inode, mode_t mode);
  void give_back(InodeNumber inode, mode_t mode);
  [[nodiscard]] bool in_use(InodeNumber inode);

 private:
  static constexpr std::size_t kRemembered = 4096;
  [[nodiscard]] std::atomic<InodeNumber>& place_of(InodeNumber inode) { return used_[inode % kRemembered]; }
  [[nodiscard]] InodeNumber first_of_roomiest_group();
  [[nodiscard]] InodeNumber first_of_group(dgrp_t group) const;
  [[nodiscard]] InodeNumber next_usable(InodeNumber from, InodeNumber last);

  Volume& volume_;
  // Some of those in use, each in its place. Changed under library(), so that none stays when it is freed.
  std::array<std::atomic<InodeNumber>, kRemembered> used_{};
};

}  // namespace fuse4fs::ext4
