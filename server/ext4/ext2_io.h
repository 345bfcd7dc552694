// SPDX-License-Identifier: GPL-2.0-or-later
// libext2fs's way to the device: an io_manager over the buffer cache. It opens nothing by name.
//
// What it writes is bitmaps, descriptors and the superblock, as a part of a write-back. That is no change
// under a handle: it goes to the cache directly, while its thread holds all others off
// (journal::Journal::Pause). Builds without NDEBUG stop where it is done otherwise.
//
// Locking: its thread's alone; takes the cache's.
// Errors: those of the C library, as errcode_t.
#pragma once

#include "server/cache/buffer_cache.h"
#include "server/ext4/ext2.h"
#include "server/journal/handle.h"

namespace fuse4fs::ext4 {

// While it lives, a channel that this thread opens through manager() works on these.
class Ext2Io {
 public:
  Ext2Io(cache::BufferCache& cache, journal::Journal& journal);
  ~Ext2Io();
  Ext2Io(const Ext2Io&) = delete;
  Ext2Io& operator=(const Ext2Io&) = delete;

  static io_manager manager();
};

}  // namespace fuse4fs::ext4
