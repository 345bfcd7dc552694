// SPDX-License-Identifier: GPL-2.0-or-later
// The server of one mount: puts the parts together, in the order that makes it safe.
//
// Everything that it may touch arrives first, then the sandbox closes, then the first byte of the device is
// read, then it mounts, and only when the kernel has been answered does the helper go.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/activity.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/cache/atomic_write_limits.h"
#include "server/confinement.h"
#include "server/engine_log.h"
#include "server/ext4/file_system.h"
#include "server/fuse/session.h"
#include "server/fuse/worker_pool.h"
#include "server/service/log_output.h"
#include "server/service/memory_pressure.h"
#include "server/service/notifier.h"
#include "server/service/session.h"

namespace fuse4fs {

class Server {
 public:
  // `socket`: the connection to the helper.
  static Outcome<std::unique_ptr<Server>> create(UniqueFd socket);

  // Until the mount serves and the helper has been sent home.
  Outcome<void> start();
  // Tells the helper that there will be no mount.
  void give_up(int exit_code) { helper_.say_goodbye(static_cast<std::uint32_t>(exit_code)); }
  // Until the mount is gone, or a signal asks to stop.
  void run();

 private:
  explicit Server(service::Session helper) : helper_(std::move(helper)) {}

  Outcome<cache::BlockDevice> open_device();
  Outcome<void> ask_for_iomap(const service::DeviceDescriptors& devices);
  [[nodiscard]] Outcome<void> judge_iomap(fuse::SessionOptions::Iomap wanted) const;
  Outcome<cache::BlockDevice> adopt(service::DeviceDescriptors devices);
  Outcome<void> confine(const cache::BlockDevice& device);
  Outcome<void> mount(cache::BlockDevice device);
  Outcome<void> mount_read_only(ext4::MountOptions engine);
  [[nodiscard]] cache::Access access() const {
    return read_only_ ? cache::Access::kReadOnly : cache::Access::kReadWrite;
  }
  void tell_where_it_logs();
  void watch_over_requests();
  [[nodiscard]] std::string status();
  void write_back();
  std::chrono::steady_clock::time_point initialise_inode_table();
  void shrink();
  void tell_status();
  bool signal_asks_to_stop();
  bool wait(std::chrono::seconds time);

  service::Session helper_;
  std::unique_ptr<service::LogOutput> log_;
  EngineLog engine_log_;
  service::Notifier notifier_;
  service::MemoryPressure pressure_;
  Confinement confinement_;
  UniqueFd fuse_device_, mount_gone_;
  bool read_only_ = false;
  int block_device_ = -1;  // the engine's
  bool iomap_offered_ = false;
  cache::AtomicWriteLimits atomic_writes_;  // with iomap, where the kernel has them
  // Where journal_path= names one.
  std::shared_ptr<cache::BlockDevice> external_journal_;
  unsigned processors_ = 1;
  // How long systemd waits for a sign of life.
  std::optional<std::chrono::microseconds> watchdog_limit_;
  // The workers by their numbers, behind them the main thread.
  std::unique_ptr<Activity> activity_;
  // In this order: the pool's threads use the session, the session uses the engine.
  std::unique_ptr<ext4::FileSystem> file_system_;
  std::unique_ptr<fuse::Session> session_;
  std::unique_ptr<fuse::WorkerPool> pool_;
  // One thread, for FileSystem::keep_claim().
  std::unique_ptr<fuse::WorkerPool> claim_keeper_;
  // One thread, for service::Watchdog; none where nobody waits for it.
  std::unique_ptr<fuse::WorkerPool> watchdog_;
};

}  // namespace fuse4fs
