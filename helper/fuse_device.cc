// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/fuse_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdint>

#include "helper/fuse_numbers.h"

namespace fuse4fs::helper {
namespace {

Result<UniqueFd> open_checked() {
  UniqueFd fd(::open(kFuseDevicePath, O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_last();
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return fail_last();
  if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(kFuseDeviceMajor, kFuseDeviceMinor))
    return fail(ENODEV);
  return fd;
}

}  // namespace

Outcome<UniqueFd> open_fuse_device() {
  auto fd = open_checked();
  if (!fd)
    return fail(fd.error(), fmt::format("{} cannot be opened: {} (does the kernel have FUSE? modprobe fuse)",
                                        kFuseDevicePath, fd.error().message()));
  return std::move(*fd);
}

Result<UniqueFd> clone_fuse_device(int mounted) {
  ASSIGN_OR_RETURN(UniqueFd fd, open_checked());
  auto number = static_cast<std::uint32_t>(mounted);
  if (::ioctl(fd.get(), kFuseClone, &number) != 0) return fail_last();
  return fd;
}

}  // namespace fuse4fs::helper
