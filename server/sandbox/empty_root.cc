// SPDX-License-Identifier: GPL-2.0-or-later
// A root directory with nothing in it, and no other mount: the tree that came with the mount namespace is let
// go, so that an umount or an eject elsewhere finds no copy of it here.
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "server/sandbox/steps.h"

namespace fuse4fs::sandbox::internal {
namespace {

Outcome<UniqueFd> empty_file_system() {
  UniqueFd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) return fail_to("make an empty file system");
  // One inode is the root itself: nothing could be made here even if it were writable.
  struct Setting {
    const char* key;
    const char* value;
  };
  for (const auto& [key, value] : {Setting{"size", "4k"}, {"nr_inodes", "1"}, {"mode", "0555"}}) {
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value, 0) != 0) {
      return fail_to("set up an empty file system");
    }
  }
  if (::fsconfig(context.get(), FSCONFIG_SET_FLAG, "ro", nullptr, 0) != 0 ||
      ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return fail_to("set up an empty file system");
  }
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC,
                           MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount) return fail_to("mount an empty file system");
  return mount;
}

}  // namespace

Outcome<bool> make_root_empty() {
  if (!has_effective_capability(CAP_SYS_ADMIN)) return false;
  // Whoever started us has done this already. Once more costs a copy of the tree, and then nothing below can
  // reach the host's mounts, even where the server was started by hand with the host's own CAP_SYS_ADMIN.
  if (::unshare(CLONE_NEWNS) != 0) return fail_to("make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return fail_to("make the mounts private");
  ASSIGN_OR_RETURN(UniqueFd empty, empty_file_system());
  // On top of "/", which needs no directory of a certain name; from there pivot_root turns the two around,
  // and the second "." is the old root, stacked on the new one.
  if (::move_mount(empty.get(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) != 0 ||
      ::fchdir(empty.get()) != 0) {
    return fail_to("mount an empty root directory");
  }
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return fail_to("change to an empty root directory");
  if (::umount2(".", MNT_DETACH) != 0) return fail_to("let go of the old root directory");
  if (::chdir("/") != 0) return fail_to("change to an empty root directory");
  return true;
}

}  // namespace fuse4fs::sandbox::internal
