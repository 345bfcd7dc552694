// SPDX-License-Identifier: GPL-2.0-or-later
// With its write-back cache the kernel takes writes before the server hears of them. What the server finds
// out later, the kernel has no place for in the answer to a WRITE:
//
// - The count of blocks (st_blocks). The kernel asks again only when the file is closed. Programs that look
// for
//   holes take a file without blocks for one, so a file's first blocks are told at once; more of them are
//   told a few seconds later, all together, so that a large file is not asked for after each of its pieces.
// - That there is no room. The kernel tells fsync(2) and close(2), but lets write(2) go on for ever. The next
//   write to the file asks for its attributes, once they are invalid, and gives its caller what we answer.
//
// Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "base/errno.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

class LateNews {
 public:
  // While a WRITE of this node is the current request.
  void written(std::uint64_t node, const ext4::SectorCounts& sectors);
  // A WRITE out of the kernel's cache.
  void not_written(std::uint64_t node, Errno error);

  // What a request for the attributes of an open file (FUSE_GETATTR_FH: not of stat(2)) is to answer.
  std::optional<Errno> error_for_writer(std::uint64_t node);

  // All that has waited. Every few seconds.
  void tell();

 private:
  using Clock = std::chrono::steady_clock;
  struct Failure {
    Errno error;
    Clock::time_point when;
  };

  std::mutex mutex_;
  int device_fd_ = -1;                                   // guarded by mutex_: any of the session's
  std::unordered_set<std::uint64_t> grown_;              // guarded by mutex_
  std::unordered_map<std::uint64_t, Failure> failures_;  // guarded by mutex_
};

}  // namespace fuse4fs::fuse
