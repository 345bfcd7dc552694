// SPDX-License-Identifier: GPL-2.0-or-later
// libext2fs's way to the device: an io_manager that reads through the buffer cache. It opens nothing by name.
//
// libext2fs reads the superblock and the descriptors when a volume is opened, and blocks of maps for
// block_owners. It writes nothing: it is refused.
//
// Locking: its thread's alone; takes the cache's.
// Errors: those of the C library, as errcode_t.
#pragma once

#include "server/cache/buffer_cache.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

// While it lives, a channel that this thread opens through manager() works on the cache.
class Ext2Io {
 public:
  explicit Ext2Io(cache::BufferCache& cache);
  ~Ext2Io();
  Ext2Io(const Ext2Io&) = delete;
  Ext2Io& operator=(const Ext2Io&) = delete;

  static io_manager manager();
};

}  // namespace fuse4fs::ext4
