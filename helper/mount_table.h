// SPDX-License-Identifier: GPL-2.0-or-later
// /proc/self/mountinfo: what is mounted where, without touching a mount that may hang.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace fuse4fs::helper {

struct MountEntry {
  std::string mount_point;
  std::string type;  // with the subtype: fuseblk.fuse4fs
  dev_t device = 0;
  unsigned long flags = 0;  // MS_*, of the mount and its superblock
  int id = 0;               // as statx(2) says it (STATX_MNT_ID)
  int parent = 0;           // the id of the mount that it stands on
  uid_t user = 0;           // FUSE's user_id=: who may unmount it
};

// The topmost mount at `path`, which must be canonical.
std::optional<MountEntry> find_mount(const std::string& path);

// The mount with this id (MountEntry::id), if it is attached in this mount namespace.
std::optional<MountEntry> mount_with_id(int id);

// All mounts of this device number that are FUSE's with this subtype, in the order in which they were made.
std::vector<MountEntry> mounts_of(dev_t device, const std::string& subtype);

// All mounts that are FUSE's with this subtype and carry this user's number.
std::vector<MountEntry> mounts_of_user(uid_t user, const std::string& subtype);

// The mounts that stand on one with this id.
std::vector<MountEntry> mounts_on(int id);

// Where the block device is mounted, by its number or by its name `source`. Nothing if it is mounted nowhere
// in this mount namespace.
std::optional<std::string> mount_point_of(dev_t device, const std::string& source);

// `path` from the root, without links, "." and "..": all but the last name is looked at, the last one only
// spelt. ENOENT and the like if the directory before it cannot be found; EINVAL if the last name is "." or
// "..".
std::optional<std::string> spell_out(const std::string& path);

// A mount of this type that shows the whole file system, from its root; the first one that was made.
std::optional<MountEntry> whole_mount_of_type(const std::string& type);

// Whether it is FUSE's with this subtype.
bool has_type(const MountEntry& entry, const std::string& subtype);

}  // namespace fuse4fs::helper
