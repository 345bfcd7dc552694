// SPDX-License-Identifier: GPL-2.0-or-later
// Serves one mount: reads requests from /dev/fuse and its clones, and hands each to the dispatcher.
#pragma once

#include <memory>
#include <vector>

#include "base/activity.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/fuse/dispatcher.h"
#include "server/fuse/worker_pool.h"

namespace fuse4fs::fuse {

class Session {
 public:
  // `file_system` outlives the session. `fuse_device` need not be mounted yet.
  static Outcome<std::unique_ptr<Session>> create(ext4::FileSystem& file_system, UniqueFd fuse_device,
                                                  const SessionOptions& options);
  ~Session();

  // After the mount: reads INIT, and with iomap what follows it, and answers them. ENODEV if the mount is
  // gone already.
  Result<void> answer_init();
  // A /dev/fuse descriptor bound to the same mount, so that workers do not share one queue. Before serve()
  // only.
  void add_clone(UniqueFd clone) { devices_.push_back(std::move(clone)); }
  // Puts the pool to work; `finished_fd`, an eventfd, is written to when the mount is gone. Each worker is
  // the member of `activity` with its number, and a request is a turn. `activity` outlives the workers.
  void serve(WorkerPool& pool, int finished_fd, Activity& activity);

  // Once initialised: the kernel moves file data by itself. Threads that write anything back, or hold locks
  // that those who serve wait for, then say so with prepare_thread() before they do.
  [[nodiscard]] bool uses_iomap() const { return dispatcher_->uses_iomap(); }
  // This thread's allocations never wait for file systems to write: the kernel might be waiting for this one.
  void prepare_thread();

  // Metadata that has been dirty for a while. Nothing if the volume is unmounted.
  Result<void> write_back() { return dispatcher_->write_back(); }
  // One of the inode tables that mke2fs left. False: there is none any more.
  bool initialise_inode_table() { return dispatcher_->initialise_inode_table(); }
  // Caches are given back: the machine is short of memory. Answers the bytes.
  std::size_t shrink() { return dispatcher_->shrink(); }
  [[nodiscard]] const RequestCounters& counters() const { return dispatcher_->counters(); }
  // ENODEV once the volume is unmounted.
  Result<ext4::VolumeStatistics> statistics() { return dispatcher_->statistics(); }
  // Writes everything and marks the volume clean, unless umount has done so. Waits for running requests.
  Result<void> unmount() { return dispatcher_->unmount(); }

 private:
  Session(std::unique_ptr<Dispatcher> dispatcher, UniqueFd fuse_device, KernelDevice& kernel);
  // One request. ENODEV when the mount is gone.
  Result<void> serve_one(int device_fd, std::span<std::byte> buffer);
  void serve_until_gone(int device_fd);

  KernelDevice& kernel_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::vector<UniqueFd> devices_;
};

}  // namespace fuse4fs::fuse
