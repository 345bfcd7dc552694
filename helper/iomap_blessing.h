// SPDX-License-Identifier: GPL-2.0-or-later
// The blessing of /dev/fuse for iomap: from then on the kernel lets the mount that is made of it read and
// write file data on the device itself, where the server says.
//
// Given or withheld before the server sees the descriptor, by the user's word alone: nothing that a server
// says changes it. No released kernel has iomap; what this one has is asked of it.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "helper/mount_options.h"

namespace fuse4fs::helper {

// The kernel's side, so that a test can stand in for it.
struct IomapKernel {
  // ioctl(2) of a /dev/fuse.
  std::function<Result<void>(int fd, unsigned long request, void* argument)> ioctl;
  std::string parameter;  // the file of fuse's module parameter enable_iomap
};
IomapKernel running_kernel();

// Blesses the descriptor, unless the user refused it. Needs CAP_SYS_RAWIO, and no mount yet. Failures, with
// words for what is missing: EPERM (the user's refusal, the module's parameter, no CAP_SYS_RAWIO),
// EOPNOTSUPP (the kernel was built without), ENOTTY (it knows nothing of it).
Outcome<void> bless_for_iomap(int fuse_device, IomapWish wish, const IomapKernel& kernel = running_kernel());

}  // namespace fuse4fs::helper
