// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/connection_control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <string>

#include "base/unique_fd.h"

namespace fuse4fs::helper {
namespace {

// The kernel names a connection after its own form of the device number: 12 bits, then 20.
constexpr unsigned kMinorBits = 20;

// The control file system, attached nowhere: it goes with its descriptor.
Result<UniqueFd> open_fusectl() {
  const UniqueFd context(::fsopen("fusectl", FSOPEN_CLOEXEC));
  if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return fail_last();
  UniqueFd root(
      ::fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!root) return fail_last();
  return root;
}

std::string abort_file_of(dev_t device) {
  return fmt::format("{}/abort", (major(device) << kMinorBits) | minor(device));
}

}  // namespace

Result<void> abort_connection(dev_t device) {
  ASSIGN_OR_RETURN(const UniqueFd control, open_fusectl());
  const UniqueFd file(::openat(control.get(), abort_file_of(device).c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), "1", 1) != 1) return fail_last();
  return {};
}

Result<uid_t> owner_of_connection(dev_t device) {
  ASSIGN_OR_RETURN(const UniqueFd control, open_fusectl());
  struct stat status = {};
  if (::fstatat(control.get(), abort_file_of(device).c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_last();
  return status.st_uid;
}

}  // namespace fuse4fs::helper
