// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers of the kernel's FUSE interface that the helper uses. The experimental ones are here and nowhere
// else.
#pragma once

#include <sys/types.h>

namespace fuse4fs::helper {

inline constexpr char kFuseDevicePath[] = "/dev/fuse";
inline constexpr unsigned kFuseDeviceMajor = 10;
inline constexpr unsigned kFuseDeviceMinor = 229;

// Binds a fresh /dev/fuse to the connection of a mounted one. Argument: pointer to the mounted one's number
// (u32).
inline constexpr unsigned long kFuseClone = 0x8004e500;
// Experimental (fuse-iomap v7): lets the connection that this descriptor will make ask for iomap. No
// argument. ENOTTY on kernels without it, and harmless there.
inline constexpr unsigned long kFuseAddIomap = 0xe565;

}  // namespace fuse4fs::helper
