// SPDX-License-Identifier: GPL-2.0-or-later
// Tells the kernel which mappings it may keep, and which not any more.
//
// Any thread, also with an inode's lock: the kernel waits for nobody in it, for no page, no writer and no
// answer (v7: fuse_iomap.c takes the mount's killsb shared, and the lock of the inode's mappings).
#pragma once

#include <cstdint>

#include "server/ext4/mapping_service.h"
#include "server/fuse/kernel_device.h"

namespace fuse4fs::fuse {

class MappingNotifier final : public ext4::MappingCache {
 public:
  // `kernel` outlives this. `device_fd`: any /dev/fuse descriptor of the mount; `device`: the id of what
  // mappings are of.
  MappingNotifier(KernelDevice& kernel, int device_fd, std::uint32_t device, std::uint32_t block_size)
      : kernel_(kernel), device_fd_(device_fd), device_(device), block_size_(block_size) {}

  Result<void> forget(ext4::InodeNumber inode, ext4::ByteRange range) override;
  bool remember(ext4::InodeNumber inode, const ext4::DataMapping& mapping) override;
  Result<void> forget_device(ext4::ByteRange range) override;

 private:
  Result<void> invalidate(ext4::InodeNumber inode, ext4::ByteRange range);

  KernelDevice& kernel_;
  const int device_fd_;
  const std::uint32_t device_;
  const std::uint32_t block_size_;
};

}  // namespace fuse4fs::fuse
