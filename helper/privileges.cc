// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/privileges.h"

#include <cap-ng.h>
#include <grp.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace fuse4fs::helper {

Outcome<void> keep_needed_privileges(Errand errand) {
  if (::getuid() != 0 || ::geteuid() != 0) {
    return fail(Errno(EPERM), "only root may do this (and the program must not be setuid)");
  }
  std::vector<unsigned> needed = {
      CAP_SYS_ADMIN,     // fsopen to move_mount, loop devices, BLKBSZSET, namespaces of the server
      CAP_SYS_RAWIO,     // the blessing of /dev/fuse for iomap
      CAP_DAC_OVERRIDE,  // devices and images that belong to somebody else; the server's uid_map
      CAP_SETUID,        // the server's user, or its user namespace's map
      CAP_SETGID,        // the same for its group
      CAP_SETPCAP,       // taking capabilities out of bounding sets
      CAP_KILL,          // ending a server that failed
      CAP_SYS_RESOURCE,  // a trigger for memory pressure (Linux before 6.4)
  };
  // setns(2) into a mount namespace asks for the one, opening /proc/N/ns/mnt of a process with more powers
  // than this one has left for the other.
  if (errand == Errand::kMountElsewhere || errand == Errand::kStop)
    needed.insert(needed.end(), {CAP_SYS_CHROOT, CAP_SYS_PTRACE});
  // Seeing another user's open descriptors, or mount namespace, in /proc.
  if (errand == Errand::kAbort || errand == Errand::kForUser) needed.push_back(CAP_SYS_PTRACE);

  if (capng_get_caps_process() != 0) return fail(Errno(EPERM), "the process's capabilities cannot be read");
  if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN) == 0)
    return fail(Errno(EPERM), "root has no CAP_SYS_ADMIN here (in a container?): nothing can be mounted");
  // The server must not inherit groups either: once it has its own user namespace they cannot be dropped.
  (void)::setgroups(0, nullptr);
  std::vector<unsigned> kept;
  for (const unsigned capability : needed)
    if (capng_have_capability(CAPNG_PERMITTED, capability) != 0) kept.push_back(capability);
  const bool may_drop_bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  capng_clear(CAPNG_SELECT_ALL);
  for (const unsigned capability : kept) {
    for (const capng_type_t set : {CAPNG_EFFECTIVE, CAPNG_PERMITTED, CAPNG_BOUNDING_SET})
      if (capng_update(CAPNG_ADD, set, capability) != 0)
        return fail(Errno(EINVAL), "capabilities: libcap-ng refuses a set");
  }
  if (capng_apply(may_drop_bounds ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0)
    return fail(Errno(EPERM), "root's other capabilities cannot be given up");
  return {};
}

Outcome<void> give_up_blessing() {
  if (capng_get_caps_process() != 0 || capng_update(CAPNG_DROP, CAPNG_EFFECTIVE, CAP_SYS_RAWIO) != 0 ||
      capng_update(CAPNG_DROP, CAPNG_PERMITTED, CAP_SYS_RAWIO) != 0 || capng_apply(CAPNG_SELECT_CAPS) != 0)
    return fail(Errno(EPERM), "CAP_SYS_RAWIO cannot be given up");
  return {};
}

}  // namespace fuse4fs::helper
