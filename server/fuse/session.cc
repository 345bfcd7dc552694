// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/session.h"

#include <unistd.h>

#include "base/log.h"
#include "server/fuse/transfer_buffer.h"

namespace fuse4fs::fuse {

Session::Session(std::unique_ptr<Dispatcher> dispatcher, UniqueFd fuse_device, KernelDevice& kernel)
    : kernel_(kernel), dispatcher_(std::move(dispatcher)) {
  devices_.push_back(std::move(fuse_device));
}

Session::~Session() = default;

Outcome<std::unique_ptr<Session>> Session::create(ext4::FileSystem& file_system, UniqueFd fuse_device,
                                                  const SessionOptions& options) {
  if (options.iomap == SessionOptions::Iomap::kRequired && file_system.mappings() == nullptr)
    return fail(Errno(EOPNOTSUPP),
                "-o iomap: this server cannot serve the volume that way; leave the option out");
  ASSIGN_OR_RETURN(auto dispatcher, Dispatcher::create(file_system, options));
  return std::unique_ptr<Session>(
      new Session(std::move(dispatcher), std::move(fuse_device), *options.kernel));
}

Result<void> Session::serve_one(int device_fd, std::span<std::byte> buffer) {
  const ssize_t bytes = ::read(device_fd, buffer.data(), buffer.size());
  if (bytes < 0) {
    // ENOENT: the request was taken back before it was read. EINTR, EAGAIN: nothing there after all.
    if (errno == ENOENT || errno == EINTR || errno == EAGAIN) return {};
    return fail_last();
  }
  const Activity::Turn turn;
  dispatcher_->dispatch(device_fd, buffer.first(static_cast<std::size_t>(bytes)));
  return {};
}

Result<void> Session::answer_init() {
  TransferBuffer buffer;
  while (!dispatcher_->initialised()) {
    RETURN_IF_ERROR(serve_one(devices_.front().get(), buffer.request()));
    if (const auto failure = dispatcher_->start_failure()) return fail(*failure);
  }
  return {};
}

void Session::prepare_thread() {
  if (!uses_iomap()) return;
  if (const auto set = kernel_.never_wait_for_file_systems(devices_.front().get()); !set)
    log_warning("the kernel may wait for this server's memory while this server waits for the kernel: {}",
                set.error().message());
}

void Session::serve_until_gone(int device_fd) {
  TransferBuffer buffer;
  while (true) {
    const auto served = serve_one(device_fd, buffer.request());
    if (served) continue;
    // ENODEV is umount, ECONNABORTED is `--abort`.
    if (served.error() != Errno(ENODEV) && served.error() != Errno(ECONNABORTED))
      log_error("reading requests from the kernel failed: {}", served.error().message());
    return;
  }
}

void Session::serve(WorkerPool& pool, int finished_fd, Activity& activity) {
  dispatcher_->set_workers(pool.size());
  pool.start([this, finished_fd, &activity](std::size_t worker) {
    const Activity::Member member(activity, worker);
    prepare_thread();
    serve_until_gone(devices_[worker % devices_.size()].get());
    const std::uint64_t one = 1;
    // Cannot fail but by overflow, and then it has been signalled often enough.
    [[maybe_unused]] const auto written = ::write(finished_fd, &one, sizeof one);
  });
}

}  // namespace fuse4fs::fuse
