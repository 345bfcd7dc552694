// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/kernel_device.h"

#include <sys/ioctl.h>
#include <sys/uio.h>

#include <array>

#include "base/fuse_iomap_abi.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {

Result<void> KernelDevice::notify(int device_fd, std::int32_t code, std::span<const std::byte> what) {
  fuse_out_header header{};
  header.error = code;
  header.len = static_cast<std::uint32_t>(sizeof header + what.size());
  std::array<iovec, 2> parts{{{&header, sizeof header}, {const_cast<std::byte*>(what.data()), what.size()}}};
  if (::writev(device_fd, parts.data(), what.empty() ? 1 : 2) < 0) return fail_last();
  return {};
}

std::uint64_t KernelDevice::iomap_support(int device_fd) {
  iomap_abi::Support support{};
  return ::ioctl(device_fd, iomap_abi::kIoctlSupport, &support) == 0 ? support.flags : 0;
}

Result<std::uint32_t> KernelDevice::register_block_device(int device_fd, int block_device) {
  iomap_abi::BackingMap map{.fd = block_device, .flags = iomap_abi::kBackingIomap, .padding = 0};
  const int id = ::ioctl(device_fd, iomap_abi::kIoctlBackingOpen, &map);
  if (id < 0) return fail_last();
  if (id == 0) return fail(EPROTO);
  return static_cast<std::uint32_t>(id);
}

Result<void> KernelDevice::never_wait_for_file_systems(int device_fd) {
  std::uint32_t on = 1;
  if (::ioctl(device_fd, iomap_abi::kIoctlSetNoFs, &on) != 0) return fail_last();
  return {};
}

KernelDevice& KernelDevice::real() {
  static KernelDevice device;
  return device;
}

}  // namespace fuse4fs::fuse
