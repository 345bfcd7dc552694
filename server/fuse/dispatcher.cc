// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/dispatcher.h"

#include <fuse_lowlevel.h>
#include <linux/fs.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/decoded.h"
#include "server/fuse/extra_operations.h"
#include "server/fuse/kernel_abi.h"
#include "server/fuse/mode_watch.h"
#include "server/fuse/negotiation.h"
#include "server/fuse/notifications.h"
#include "server/fuse/operations.h"
#include "server/fuse/range_operations.h"
#include "server/fuse/reply.h"
#include "server/fuse/xattr_operations.h"

namespace fuse4fs::fuse {
namespace {

// libfuse is never given the real descriptor: it closes what it is given, and cannot know about the cloned
// ones.
constexpr int kDescriptorLibfuseNeverUses = 1 << 20;

// What the INIT request that this thread is handling says, and how it is to be answered.
thread_local InitOffer init_offer;

template <class Struct>
bool copy_from(std::span<const std::byte> bytes, Struct& into) {
  if (bytes.size() < sizeof into) return false;
  std::memcpy(&into, bytes.data(), sizeof into);
  return true;
}

ssize_t write_reply(int, iovec* parts, int count, void*) {
  if (CurrentRequest::opcode() == FUSE_INIT)
    complete_init_reply(std::span(parts, static_cast<std::size_t>(count)), init_offer);
  return ::writev(CurrentRequest::device_fd(), parts, count);
}

// The workers read; libfuse only wants to be told that somebody could.
ssize_t never_reads(int, void*, std::size_t, void*) {
  errno = ENOTSUP;
  return -1;
}

}  // namespace

void Dispatcher::DestroySession::operator()(fuse_session* session) const { fuse_session_destroy(session); }

Outcome<std::unique_ptr<Dispatcher>> Dispatcher::create(ext4::FileSystem& file_system,
                                                        const SessionOptions& options) {
  std::unique_ptr<Dispatcher> dispatcher(new Dispatcher(file_system, options));
  char name[] = "fuse4fs";
  char* argv[] = {name, nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(1, argv);
  dispatcher->session_.reset(
      fuse_session_new(&arguments, &operations(), sizeof(fuse_lowlevel_ops), &file_system));
  fuse_opt_free_args(&arguments);  // libfuse has made its own copy of them
  if (!dispatcher->session_) return fail(Errno(ENOMEM), "libfuse could not make a session");
  fuse_custom_io io{};
  io.writev = write_reply;
  io.read = never_reads;
  if (const int error = fuse_session_custom_io(dispatcher->session_.get(), &io, kDescriptorLibfuseNeverUses);
      error != 0)
    return fail(Errno(error < 0 ? -error : error), "libfuse refused its session's input and output");
  return dispatcher;
}

Dispatcher::~Dispatcher() = default;

void Dispatcher::dispatch(int device_fd, std::span<std::byte> request) {
  fuse_in_header header{};
  if (!copy_from(request, header) || header.len != request.size()) {
    log_warning("a request of {} bytes from the kernel is not one", request.size());
    return;
  }
  const CurrentRequest::Scope scope(connection_, device_fd, header.unique, header.opcode,
                                    request.subspan(sizeof header));
  counters_.count(header.opcode);
  try {
    serve(header.opcode, request);
  } catch (const std::exception& exception) {
    // The Reply on the way has answered EIO. One request that cannot be served is no reason to end them all.
    log_error("opcode {}: {}", header.opcode, exception.what());
  }
}

void Dispatcher::serve(std::uint32_t opcode, std::span<std::byte> request) {
  if (opcode == FUSE_DESTROY) return destroy();

  const std::shared_lock running(running_);
  if (unmounted_) {
    Reply reply;
    const bool wants_answer =
        opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
    return wants_answer ? reply.error(Errno(ENODEV)) : reply.none();
  }
  switch (opcode) {
    case FUSE_WRITE:
      return write(request);
    case FUSE_SETXATTR:
      return set_xattr(file_system_, request,
                       extended_setxattr_ ? SetxattrForm::kExtended : SetxattrForm::kShort);
    case FUSE_SYNCFS: {
      Reply reply;
      return reply.outcome(file_system_.sync());
    }
    case FUSE_LSEEK:
      return seeks_.serve(request);
    case kCopyFileRange64:
      return copy_file_range_64(file_system_, request);
    case FUSE_INTERRUPT:
      return;
    case FUSE_INIT:
      return init(request);
    case FUSE_GETATTR:
      if (getattr(request)) return;
      return hand_to_libfuse(request);
    case FUSE_IOCTL:
    case FUSE_FALLOCATE:
      // With iomap it is the kernel that refuses, after it has written what it holds.
      if (!uses_iomap() && serial_queue_.others_serve() && locks_inode(opcode, request))
        return serve_after_dirty_pages(request);
      return hand_to_libfuse(request);
    default:
      if (mapping_requests_ && mapping_requests_->serve(opcode, request)) return;
      if (serve_extra_operation(file_system_, opcode, request)) return;
      return hand_to_libfuse(request);
  }
}

void Dispatcher::write(std::span<const std::byte> request) {
  fuse_in_header header{};
  fuse_write_in in{};
  Reply reply;
  if (request.size() < kWriteHeaderSize || !copy_from(request, header) ||
      !copy_from(request.subspan(sizeof header), in) || in.size != request.size() - kWriteHeaderSize)
    return reply.error(Errno(EINVAL));
  const auto privileges = (in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0
                              ? ext4::AttributeChanges::Privileges::kClear
                              : ext4::AttributeChanges::Privileges::kKeep;
  const ModeWatch watch(file_system_, header.nodeid, privileges);
  const auto written = file_system_.write(inode_number(header.nodeid), in.offset,
                                          request.subspan(kWriteHeaderSize), privileges);
  if (written) {
    watch.content_changed();
    late_news_.written(header.nodeid, *written);
    return reply.written(in.size);
  }
  if ((in.write_flags & FUSE_WRITE_CACHE) != 0) late_news_.not_written(header.nodeid, written.error());
  reply.error(written.error());
}

bool Dispatcher::getattr(std::span<const std::byte> request) {
  const auto in = decode<fuse_getattr_in>(request);
  if (!in || (in->body.getattr_flags & FUSE_GETATTR_FH) == 0) return false;
  const auto error = late_news_.error_for_writer(in->header.nodeid);
  if (error) Reply().error(*error);
  return error.has_value();
}

bool Dispatcher::locks_inode(std::uint32_t opcode, std::span<const std::byte> request) {
  if (opcode == FUSE_IOCTL) return ioctl_locks_inode(request);
  fuse_in_header header{};
  if (opcode != FUSE_FALLOCATE || !copy_from(request, header)) return false;
  // It moves the end of the file, before which nothing may be written.
  const auto flags = file_system_.flags(inode_number(header.nodeid));
  return flags && (flags->flags & FS_APPEND_FL) != 0;
}

void Dispatcher::serve_after_dirty_pages(std::span<const std::byte> request) {
  serial_queue_.run([this, device_fd = CurrentRequest::device_fd(),
                     copy = std::vector<std::byte>(request.begin(), request.end())]() mutable {
    fuse_in_header header{};
    copy_from(copy, header);
    const CurrentRequest::Scope scope(connection_, device_fd, header.unique, header.opcode,
                                      std::span(copy).subspan(sizeof header));
    write_dirty_pages(device_fd, header.nodeid, 0, 0);
    hand_to_libfuse(copy);
  });
}

void Dispatcher::destroy() {
  // umount(2) waits for this answer: everything is on the medium and the device is free before it is given.
  Reply reply;
  reply.outcome(unmount());
}

Result<void> Dispatcher::unmount() {
  const std::unique_lock alone(running_);
  if (!unmounted_) {
    unmounted_ = fail(EIO);  // what it came to if the engine throws
    unmounted_ = file_system_.unmount();
  }
  return *unmounted_;
}

Result<void> Dispatcher::write_back() {
  const std::shared_lock running(running_);
  if (unmounted_) return {};
  late_news_.tell();
  return file_system_.write_back();
}

bool Dispatcher::initialise_inode_table() {
  const std::shared_lock running(running_);
  return !unmounted_ && file_system_.initialise_inode_table();
}

std::size_t Dispatcher::shrink() {
  const std::shared_lock running(running_);
  return unmounted_ ? 0 : file_system_.shrink();
}

Result<ext4::VolumeStatistics> Dispatcher::statistics() {
  const std::shared_lock running(running_);
  if (unmounted_) return fail(ENODEV);
  return file_system_.statistics();
}

bool Dispatcher::initialised() const {
  return initialised_ && (!mapping_requests_ || mapping_requests_->configured());
}

void Dispatcher::init(std::span<std::byte> request) {
  fuse_init_in in{};
  // Kernels before 7.36 send less than today's struct.
  const auto payload = request.subspan(sizeof(fuse_in_header));
  std::memcpy(&in, payload.data(), std::min(sizeof in, payload.size()));
  init_offer = {.flags = in.flags, .minor = in.minor, .options = options_};
  if (in.flags & FUSE_INIT_EXT) init_offer.flags |= std::uint64_t{in.flags2} << 32;
  init_offer.data_path = agreed_data_path(file_system_, init_offer);
  if (init_offer.data_path == DataPath::kIomap) {
    // The kernel's next request comes as soon as it has the answer.
    mapping_requests_ = std::make_unique<MappingRequests>(file_system_, options_);
    connection_.sector_size = options_.sector_size;
    connection_.atomic_write_unit = options_.atomic_write_unit;
    connection_.data_path = DataPath::kIomap;
  }
  extended_setxattr_ = (init_offer.flags & FUSE_SETXATTR_EXT) != 0;
  hand_to_libfuse(request);
  initialised_ = true;
}

void Dispatcher::hand_to_libfuse(std::span<std::byte> request) {
  fuse_buf buffer{};
  buffer.mem = request.data();
  buffer.size = request.size();
  fuse_session_process_buf(session_.get(), &buffer);
}

}  // namespace fuse4fs::fuse
