// SPDX-License-Identifier: GPL-2.0-or-later
// When reading sets an inode's access time: the rules of noatime, relatime and strictatime, which the
// kernel's FUSE leaves to the server (its inodes are S_NOATIME).
//
// Nothing here waits for the device: the inode's block is changed in the cache and goes out with the rest.
// Locking: none is held by the caller. The inode's is taken only where its time is due, which with relatime
// hardly ever is the case: readers do not wait for each other.
// Errors: none; a read does not fail because its time could not be noted.
#pragma once

#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

class AccessTimePolicy {
 public:
  AccessTimePolicy(const Volume& volume, const MountOptions& options)
      : volume_(volume), files_(options.access_times), directories_(options.directory_access_times) {}

  // After reading from it. `inode` is what it was before.
  void touch(Metadata& metadata, const Inode& inode, AccessTime access_time) const;

 private:
  [[nodiscard]] bool is_due(const Inode& inode, Timestamp time) const;

  const Volume& volume_;
  const AccessTimes files_;
  const AccessTimes directories_;
};

}  // namespace fuse4fs::ext4
