// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/iomap_blessing.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <fstream>

#include "base/fuse_iomap_abi.h"

namespace fuse4fs::helper {
namespace {

constexpr char kParameter[] = "/sys/module/fuse/parameters/enable_iomap";

bool is_switched_off(const std::string& parameter) {
  std::ifstream file(parameter);
  char value = 0;
  return file.get(value) && (value == 'N' || value == '0');
}

std::unexpected<Failure> not_blessed(Errno error, const IomapKernel& kernel) {
  if (error == Errno(EPERM)) {
    return fail(error, is_switched_off(kernel.parameter)
                           ? fmt::format("the kernel's iomap is switched off (echo Y >{})", kernel.parameter)
                           : "the kernel gives iomap only to a process with CAP_SYS_RAWIO, which this one "
                             "lacks (in a container?)");
  }
  if (error == Errno(EOPNOTSUPP))
    return fail(error, "the kernel was built without iomap for FUSE (CONFIG_FUSE_IOMAP)");
  // Unknown requests of /dev/fuse are ENOTTY; old kernels know EINVAL for them.
  return fail(Errno(ENOTTY), "this kernel has no iomap for FUSE");
}

}  // namespace

IomapKernel running_kernel() {
  return {.ioctl = [](int fd, unsigned long request, void* argument) -> Result<void> {
            if (::ioctl(fd, request, argument) != 0) return fail_last();
            return {};
          },
          .parameter = kParameter};
}

Outcome<void> bless_for_iomap(int fuse_device, IomapWish wish, const IomapKernel& kernel) {
  if (wish == IomapWish::kRefused) return fail(Errno(EPERM), "option noiomap");
  if (const auto blessed = kernel.ioctl(fuse_device, iomap_abi::kIoctlAddIomap, nullptr); !blessed)
    return not_blessed(blessed.error(), kernel);
  iomap_abi::Support support{};
  const auto asked = kernel.ioctl(fuse_device, iomap_abi::kIoctlSupport, &support);
  if (!asked) return not_blessed(asked.error(), kernel);
  if ((support.flags & iomap_abi::kSupportFileIo) == 0)
    return fail(Errno(EOPNOTSUPP), "the kernel's iomap for FUSE cannot do file I/O");
  return {};
}

}  // namespace fuse4fs::helper
