// SPDX-License-Identifier: GPL-2.0-or-later
// mount.fuse4fs --stop: unmounts what a server serves, so that it ends in order; what ExecStop= of its unit
// runs.
//
// By the record that the helper left when it mounted (mount_record.h): nothing that the server says or has
// open counts. Only mounts of that device number and of our type are touched.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/result.h"
#include "helper/mount_place.h"

namespace fuse4fs::helper {

enum class Detach { kWhenUnused, kLazily };

// What is to be stopped: the first of the four that is given.
struct StopOrder {
  std::string directory = {};  // a mount point
  // With `directory`, where the right to unmount was judged by another process: this mount, and no other of
  // its server's; ESTALE if it is gone and another has its id. The directory is for words then.
  std::optional<MountIdentity> only = {};
  std::string unit = {};  // the server's systemd unit
  pid_t pid = 0;          // the server's process
  // None of them: the server has ended already, and records of such are cleared up.
  Detach detach = Detach::kWhenUnused;
};

// Writes back, then unmounts every mount of the server's device in the mount namespace that the record names
// (this one, or that of process 1), waits a while for the server's end, and removes the record. Nothing to do
// is a success. EBUSY with words if a mount is in use: what was written is on the device even so. Nobody is
// killed.
Outcome<void> stop(const StopOrder& order);

}  // namespace fuse4fs::helper
