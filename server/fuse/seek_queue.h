// SPDX-License-Identifier: GPL-2.0-or-later
// LSEEK (SEEK_DATA and SEEK_HOLE): where the volume has a hole, the kernel may hold data that it has not
// written.
//
// The kernel asks without writing its dirty pages first (seen on 6.18). So before a hole is told it is made
// to write what it holds of that hole, by FUSE_NOTIFY_INVAL_INODE; of a hole's pages nothing else is lost.
// That call returns when other workers have served the WRITEs, so one worker at a time may be in it: seeks
// that come meanwhile wait in a queue, and the worker answers them too.
//
// Any thread. Below two workers it answers ENOSYS once: all is data then, as far as the kernel knows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>

#include "base/result.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

class SeekQueue {
 public:
  explicit SeekQueue(ext4::FileSystem& file_system) : file_system_(file_system) {}

  // Before the first request.
  void set_workers(std::size_t workers) { workers_ = workers; }
  // One whole LSEEK message, the current request. Answers it, now or later.
  void serve(std::span<const std::byte> request);

 private:
  struct Seek {
    int device_fd = -1;
    std::uint64_t unique = 0, node = 0, offset = 0;
    ext4::SeekTarget target{};
  };

  void answer(const Seek& seek);
  Result<std::uint64_t> find(const Seek& seek);
  Result<std::uint64_t> look(const Seek& seek, std::uint64_t offset, ext4::SeekTarget target);
  // Up to before `end`, without one to the end of the file.
  static void write_dirty_pages(const Seek& seek, std::uint64_t begin, const Result<std::uint64_t>& end);

  ext4::FileSystem& file_system_;
  std::size_t workers_ = 1;
  std::mutex mutex_;
  std::deque<Seek> waiting_;  // guarded by mutex_
  bool busy_ = false;         // guarded by mutex_: a worker is at it
};

}  // namespace fuse4fs::fuse
