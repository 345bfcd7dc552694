// SPDX-License-Identifier: GPL-2.0-or-later
// One mount, told from every other one, and the place where it stands: so that what is unmounted or changed
// is what was judged, whatever its path leads to by then.
//
// Paths are walked by root, and who may rename a directory in one can have it lead elsewhere between two
// walks. A mount point itself cannot be renamed or removed in its own mount namespace. So the directory that
// holds it is opened once, the kernel says which mount is there, and all that follows starts at that
// directory. What is left: in the moment after the check somebody may mount something on top, and then that
// is unmounted. Single-threaded: the working directory changes for moments, and is / afterwards.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "helper/mount_table.h"

namespace fuse4fs::helper {

struct MountIdentity {
  dev_t device = 0;
  int id = 0;                   // STATX_MNT_ID, as in mountinfo; the kernel gives it to others later
  std::uint64_t unique_id = 0;  // STATX_MNT_ID_UNIQUE, never given twice; 0 before Linux 6.8
  friend bool operator==(const MountIdentity&, const MountIdentity&) = default;
};

// Of the mount that `name` leads to from `directory`, or of the descriptor itself if `name` is empty. Asks no
// file system, and follows no link in the last place.
Result<MountIdentity> identity_of(int directory, const char* name);

class MountPlace {
 public:
  // ESTALE if the path does not lead to this very mount: another one is on top, or the path has changed.
  static Result<MountPlace> find(const MountEntry& mount);

  [[nodiscard]] const MountIdentity& identity() const { return identity_; }

  // Its root directory. `flags`: of open(2); without O_PATH the file system is asked. ESTALE as above.
  [[nodiscard]] Result<UniqueFd> open(int flags) const;
  // `flags`: of umount2(2). ESTALE as above.
  [[nodiscard]] Result<void> unmount(int flags) const;

 private:
  MountPlace(UniqueFd parent, std::string name, MountIdentity identity)
      : parent_(std::move(parent)), name_(std::move(name)), identity_(identity) {}

  UniqueFd parent_;   // the directory that holds the mount point
  std::string name_;  // of the mount point in it
  MountIdentity identity_;
};

// Why there is no place, for people.
std::string words_of_place(Errno error);

// Takes away the mount that an O_PATH descriptor of its root stands for, busy or not, wherever it is
// attached: no path is walked. ESTALE if another one is on top of it, EINVAL if it is attached nowhere.
// `descriptors`: /proc/self/fd, opened where /proc can be trusted: the present mount namespace may be
// another's.
Result<void> detach(int mount, int descriptors);

}  // namespace fuse4fs::helper
