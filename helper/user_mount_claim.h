// SPDX-License-Identifier: GPL-2.0-or-later
// How many mounts one user may have, counted so that many who ask at once do not pass the limit together.
//
// Who mounts for a user first takes one of the user's places, and keeps it until the mount is in the mount
// table, or is not to be. What counts is places that are taken, and mounts: so one that is just getting ready
// is counted twice for a moment, never not at all. A place is a lock of the kernel's (OFD) on one byte of a
// file of root's: it ends with the processes that have the file open, however they end. Byte 64 * USER is
// held while it is counted; the places follow it.
#pragma once

#include <sys/types.h>

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace fuse4fs::helper {

// Each costs a server. Less than 64.
inline constexpr int kMostMountsOfOneUser = 32;

class MountClaim {
 public:
  // `file`: RecordDirectory::open_claims(), opened for this claim alone. `mounted` counts the user's mounts,
  // and is called while no other claim of this user can be made. EUSERS if there is no place left.
  static Result<MountClaim> take(UniqueFd file, uid_t user, const std::function<int()>& mounted,
                                 int most = kMostMountsOfOneUser);

 private:
  explicit MountClaim(UniqueFd file) : file_(std::move(file)) {}

  UniqueFd file_;  // closing it gives the place back
};

// The mounts of this project in this mount namespace that carry the user's number, and the servers that serve
// such a one elsewhere still (in a namespace that copied it).
int count_mounts_of_user(uid_t user);

}  // namespace fuse4fs::helper
