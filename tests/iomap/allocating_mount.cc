// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/allocating_mount.h"

#include <sys/mman.h>
#include <unistd.h>

#include <system_error>
#include <vector>

namespace fuse4fs::iomap_model {

AllocatingMount::AllocatingMount(Options options, std::uint64_t device_bytes)
    : device_(::memfd_create("device", MFD_CLOEXEC)) {
  const std::vector<std::byte> old(1 << 20, std::byte{0xe5});
  for (std::uint64_t at = 0; at < device_bytes; at += old.size())
    if (::pwrite(device_.get(), old.data(), old.size(), static_cast<off_t>(at)) !=
        static_cast<ssize_t>(old.size()))
      throw std::system_error(errno, std::generic_category(), "the device");
  options.server.shape.blocks = device_bytes / options.server.shape.block_size;
  if (!options.mount.kernel.tampering) options.mount.kernel.tampering = tampering_for(options.server.mistake);
  options.mount.kernel.watch = Core::Watch::kServerTells;
  const auto make = [&](Kernel& kernel) {
    auto server = std::make_unique<AllocatingVolume>(device_.get(), kernel, options.server);
    server_ = server.get();
    return server;
  };
  mount_ = std::make_unique<TestMount>(device_.get(), make, options.mount);
}

}  // namespace fuse4fs::iomap_model
