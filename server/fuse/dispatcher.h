// SPDX-License-Identifier: GPL-2.0-or-later
// One request, from the bytes of /dev/fuse to its answer: the opcodes that are decoded here, libfuse for the
// rest.
//
// In extra_operations.h is what libfuse 3.14 does not know at all. Here are WRITE (libfuse 3.14 hides
// FUSE_WRITE_KILL_SUIDGID), SETXATTR (the same with FUSE_SETXATTR_ACL_KILL_SGID), LSEEK (may be answered
// later: seek_queue.h), SYNCFS and COPY_FILE_RANGE_64 (libfuse does not know them), DESTROY (must wait for
// all others and close the device before it is answered), INTERRUPT (no operation waits for anything but the
// device, so there is nothing to interrupt) and INIT (its reply is completed).
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>

#include "base/result.h"
#include "server/ext4/file_system.h"
#include "server/fuse/connection.h"
#include "server/fuse/late_news.h"
#include "server/fuse/mapping_requests.h"
#include "server/fuse/negotiation.h"
#include "server/fuse/request_counters.h"
#include "server/fuse/seek_queue.h"
#include "server/fuse/serial_queue.h"

struct fuse_session;

namespace fuse4fs::fuse {

class Dispatcher {
 public:
  // `file_system` outlives the dispatcher.
  static Outcome<std::unique_ptr<Dispatcher>> create(ext4::FileSystem& file_system,
                                                     const SessionOptions& options = {});
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // How many threads will dispatch. Before the first request.
  void set_workers(std::size_t workers) { serial_queue_.set_workers(workers); }

  // Any thread. `request` is one whole message as read from `device_fd`, which also gets the answer.
  void dispatch(int device_fd, std::span<std::byte> request);

  // Waits for running requests and unmounts the volume, unless DESTROY already has. Later requests get
  // ENODEV.
  Result<void> unmount();

  // FileSystem::write_back(), as one of the running requests.
  Result<void> write_back();
  // FileSystem::initialise_inode_table(), likewise.
  bool initialise_inode_table();
  // FileSystem::shrink(), in the same way.
  std::size_t shrink();
  // FileSystem::statistics(), as one of the running requests. ENODEV once the volume is unmounted.
  Result<ext4::VolumeStatistics> statistics();
  // INIT has been answered, and with iomap what follows it: the mount serves.
  [[nodiscard]] bool initialised() const;
  // The kernel was told that this mount cannot be, and why: it sends nothing more.
  [[nodiscard]] std::optional<Errno> start_failure() const {
    return mapping_requests_ ? mapping_requests_->failure() : std::nullopt;
  }
  // Once initialised(): the kernel moves file data.
  [[nodiscard]] bool uses_iomap() const { return connection_.uses_iomap(); }
  [[nodiscard]] const RequestCounters& counters() const { return counters_; }

 private:
  Dispatcher(ext4::FileSystem& file_system, const SessionOptions& options)
      : file_system_(file_system), options_(options), seeks_(file_system, serial_queue_) {}

  void serve(std::uint32_t opcode, std::span<std::byte> request);
  void write(std::span<const std::byte> request);
  // Whether it was answered: with what a write to the file came to earlier.
  bool getattr(std::span<const std::byte> request);
  // After it the inode may refuse what the kernel still has to write to it.
  bool locks_inode(std::uint32_t opcode, std::span<const std::byte> request);
  void serve_after_dirty_pages(std::span<const std::byte> request);
  void destroy();
  void hand_to_libfuse(std::span<std::byte> request);
  void init(std::span<std::byte> request);

  ext4::FileSystem& file_system_;
  const SessionOptions options_;
  RequestCounters counters_;
  SerialQueue serial_queue_;
  SeekQueue seeks_;
  LateNews late_news_;
  // Shared by every running request, exclusive for unmount. The outermost lock.
  std::shared_mutex running_;
  // Guarded by running_. What the one unmount came to, once it was tried.
  std::optional<Result<void>> unmounted_;
  Connection connection_;
  std::unique_ptr<MappingRequests> mapping_requests_;  // with iomap; set while INIT is answered
  std::atomic<bool> initialised_ = false;
  std::atomic<bool> extended_setxattr_ = false;  // SETXATTR comes in its longer form
  struct DestroySession {
    void operator()(fuse_session* session) const;
  };
  std::unique_ptr<fuse_session, DestroySession> session_;
};

}  // namespace fuse4fs::fuse
