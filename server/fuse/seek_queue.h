// SPDX-License-Identifier: GPL-2.0-or-later
// LSEEK (SEEK_DATA and SEEK_HOLE): where the volume has a hole, the kernel may hold data that it has not
// written.
//
// The kernel asks without writing its dirty pages first (seen on 6.18). So before a hole is told it is made
// to write what it holds of that hole; of a hole's pages nothing else is lost. Such a seek waits its turn in
// a SerialQueue.
//
// Any thread. Below two workers it answers ENOSYS once: all is data then, as far as the kernel knows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "server/ext4/file_system.h"
#include "server/fuse/connection.h"
#include "server/fuse/serial_queue.h"

namespace fuse4fs::fuse {

class SeekQueue {
 public:
  SeekQueue(ext4::FileSystem& file_system, SerialQueue& queue) : file_system_(file_system), queue_(queue) {}

  // One whole LSEEK message, the current request. Answers it, now or later.
  void serve(std::span<const std::byte> request);

 private:
  struct Seek {
    const Connection* connection = nullptr;
    int device_fd = -1;
    std::uint64_t unique = 0, node = 0, offset = 0;
    ext4::SeekTarget target{};
  };

  void answer(const Seek& seek);
  Result<std::uint64_t> find(const Seek& seek);
  Result<std::uint64_t> look(const Seek& seek, std::uint64_t offset, ext4::SeekTarget target);
  // Up to before `end`, without one to the end of the file.
  static void write_pages(const Seek& seek, std::uint64_t begin, const Result<std::uint64_t>& end);

  ext4::FileSystem& file_system_;
  SerialQueue& queue_;
};

}  // namespace fuse4fs::fuse
