// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers of the kernel's FUSE interface that the helper uses. Those of iomap: base/fuse_iomap_abi.h.
#pragma once

#include <sys/types.h>

namespace fuse4fs::helper {

inline constexpr char kFuseDevicePath[] = "/dev/fuse";
inline constexpr unsigned kFuseDeviceMajor = 10;
inline constexpr unsigned kFuseDeviceMinor = 229;

// A mount option of kernels with iomap, u64.
inline constexpr char kRootNodeOption[] = "root_nodeid";

// Binds a fresh /dev/fuse to the connection of a mounted one. Argument: pointer to the mounted one's number
// (u32).
inline constexpr unsigned long kFuseClone = 0x8004e500;

}  // namespace fuse4fs::helper
