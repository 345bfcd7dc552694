// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/abort.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include "base/quoted.h"
#include "helper/connection_control.h"
#include "helper/mount_table.h"

namespace fuse4fs::helper {

Outcome<void> abort_mount(const std::string& directory, const std::string& subtype) {
  // stat(2) of the mount itself would hang as everybody else does.
  const auto path = spell_out(directory);
  if (!path)
    return fail(Errno(ENOENT),
                fmt::format("{}: no such directory; name the mount point itself", quoted(directory)));
  const auto entry = find_mount(*path);
  if (!entry) return fail(Errno(EINVAL), fmt::format("{} is not a mount point", quoted(*path)));
  if (!has_type(*entry, subtype)) {
    return fail(Errno(EINVAL), fmt::format("{} is a mount of type {}, not of {}", quoted(*path),
                                           quoted(entry->type), subtype));
  }
  const auto aborted = abort_connection(entry->device);
  // MNT_FORCE aborts the connection, too, where the control file system is not to be had.
  const int flags = UMOUNT_NOFOLLOW | MNT_DETACH | (aborted ? 0 : MNT_FORCE);
  if (::umount2(path->c_str(), flags) != 0)
    return fail(Errno::last(),
                fmt::format("{} cannot be unmounted: {}", quoted(*path), Errno::last().message()));
  return {};
}

}  // namespace fuse4fs::helper
