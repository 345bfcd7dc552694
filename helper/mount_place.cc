// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_place.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

namespace fuse4fs::helper {
namespace {

#ifndef STATX_MNT_ID_UNIQUE
constexpr unsigned STATX_MNT_ID_UNIQUE = 0x4000;  // Linux 6.8
#endif

Result<struct statx> status_of(int directory, const char* name, unsigned mask) {
  struct statx status = {};
  const int flags =
      AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (*name == '\0' ? AT_EMPTY_PATH : 0);
  if (::statx(directory, name, flags, mask, &status) != 0) return fail_last();
  return status;
}

// umount2(2) knows no directory to start at.
Result<void> unmount_from(int directory, const std::string& name, int flags) {
  if (::fchdir(directory) != 0) return fail_last();
  const int result = ::umount2(name.c_str(), flags);
  const Errno error = Errno::last();
  if (::chdir("/") != 0) return fail_last();
  if (result != 0) return fail(error);
  return {};
}

bool is_covered(const MountEntry& mount) {
  return std::ranges::any_of(mounts_on(mount.id),
                             [&](const MountEntry& other) { return other.mount_point == mount.mount_point; });
}

}  // namespace

Result<MountIdentity> identity_of(int directory, const char* name) {
  ASSIGN_OR_RETURN(const struct statx status, status_of(directory, name, STATX_MNT_ID));
  // In one field the kernel says the one or the other.
  ASSIGN_OR_RETURN(const struct statx unique, status_of(directory, name, STATX_MNT_ID_UNIQUE));
  return MountIdentity{.device = makedev(status.stx_dev_major, status.stx_dev_minor),
                       .id = static_cast<int>(status.stx_mnt_id),
                       .unique_id = (unique.stx_mask & STATX_MNT_ID_UNIQUE) != 0 ? unique.stx_mnt_id : 0};
}

Result<MountPlace> MountPlace::find(const MountEntry& mount) {
  const auto slash = mount.mount_point.rfind('/');
  if (slash == std::string::npos || slash + 1 == mount.mount_point.size()) return fail(EINVAL);
  UniqueFd parent(::open(mount.mount_point.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return fail_last();
  std::string name = mount.mount_point.substr(slash + 1);
  ASSIGN_OR_RETURN(const MountIdentity there, identity_of(parent.get(), name.c_str()));
  if (there.id != mount.id || there.device != mount.device) return fail(ESTALE);
  return MountPlace(std::move(parent), std::move(name), there);
}

Result<UniqueFd> MountPlace::open(int flags) const {
  // Before as well as after: opening may ask the file system that is there.
  ASSIGN_OR_RETURN(const MountIdentity there, identity_of(parent_.get(), name_.c_str()));
  if (there != identity_) return fail(ESTALE);
  UniqueFd root(::openat(parent_.get(), name_.c_str(), flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return fail_last();
  ASSIGN_OR_RETURN(const MountIdentity opened, identity_of(root.get(), ""));
  if (opened != identity_) return fail(ESTALE);
  return root;
}

Result<void> MountPlace::unmount(int flags) const {
  ASSIGN_OR_RETURN(const MountIdentity there, identity_of(parent_.get(), name_.c_str()));
  if (there != identity_) return fail(ESTALE);
  return unmount_from(parent_.get(), name_, flags | UMOUNT_NOFOLLOW);
}

std::string words_of_place(Errno error) {
  return error == Errno(ESTALE) ? "another mount covers it" : std::string(error.message());
}

Result<void> detach(int mount, int descriptors) {
  ASSIGN_OR_RETURN(const MountIdentity identity, identity_of(mount, ""));
  const auto entry = mount_with_id(identity.id);
  // The kernel would take the one on top. (Where there is no /proc, nobody can say.)
  if (entry && is_covered(*entry)) return fail(ESTALE);
  return unmount_from(descriptors, std::to_string(mount), MNT_DETACH);
}

}  // namespace fuse4fs::helper
