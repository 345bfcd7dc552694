// SPDX-License-Identifier: GPL-2.0-or-later
// INIT: what this server asks of the kernel. libfuse makes the reply; what its version does not know is added
// to it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

#include "server/ext4/file_system.h"
#include "server/fuse/connection.h"
#include "server/fuse/kernel_device.h"
#include "server/fuse/page_cache.h"

struct fuse_conn_info;

namespace fuse4fs::fuse {

// libfuse's init operation: chooses among the capabilities that libfuse knows. `user_data`: the
// ext4::FileSystem.
void negotiate(void* user_data, fuse_conn_info* connection);

struct SessionOptions {
  // With kAllowed a copy of the mount may translate user and group ids (mount_setattr(2),
  // MOUNT_ATTR_IDMAP). The kernel then names its caller only in requests that create something, and -1 in all
  // others: who asks for an ioctl cannot be known, so that those for administrators are refused to all.
  enum class IdMappedMounts { kRefused, kAllowed };
  IdMappedMounts id_mapped_mounts = IdMappedMounts::kRefused;

  // Whether the kernel is to move file data by itself (fuse-iomap), which takes a kernel that offers it, an
  // engine that answers mappings, and a block device.
  enum class Iomap { kRefused, kIfOffered, kRequired };
  Iomap iomap = Iomap::kIfOffered;
  int block_device = -1;          // borrowed: what mappings are of
  std::uint32_t sector_size = 0;  // bytes, of that device
  // What the kernel may write of a file in one piece (RWF_ATOMIC): the block size, which is all that
  // fuse-iomap has, or 0 where the device or the kernel cannot.
  std::uint32_t atomic_write_unit = 0;           // bytes
  PageCache page_cache = PageCache::kWriteBack;  // of files whose data goes through the server
  std::string name = {};                         // how the kernel's messages shall call the mount: "sdb1"
  KernelDevice* kernel = &KernelDevice::real();
};

// The kernel's INIT.
struct InitOffer {
  std::uint64_t flags = 0;  // both words
  std::uint32_t minor = 0;
  SessionOptions options{};
  DataPath data_path = DataPath::kServer;  // what is agreed to
};

// Whether file data will be the kernel's.
DataPath agreed_data_path(ext4::FileSystem& file_system, const InitOffer& offer);

// Completes libfuse's INIT reply in place, before it is written.
void complete_init_reply(std::span<iovec> reply, const InitOffer& offer);

}  // namespace fuse4fs::fuse
