// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/file_opener.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/quoted.h"
#include "helper/fuse_device.h"
#include "helper/memory_pressure.h"

namespace fuse4fs::helper {
namespace {

// One for each worker of the largest server; each costs the kernel a queue.
constexpr int kMostClones = 64;
// Of each of the other reserved names. An honest server asks once.
constexpr int kMostOfAName = 4;

}  // namespace

Outcome<UniqueFd> open_log_file(const std::string& path) {
  // O_NONBLOCK: a pipe in its place must not stop the mount.
  UniqueFd fd(::open(path.c_str(),
                     O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600));
  struct stat status = {};
  if (!fd || ::fstat(fd.get(), &status) != 0)
    return fail(Errno::last(), fmt::format("log={}: {}", quoted(path), Errno::last().message()));
  if (!S_ISREG(status.st_mode))
    return fail(Errno(EINVAL), fmt::format("log={} is not a regular file", quoted(path)));
  return fd;
}

Result<UniqueFd> FileOpener::open(const protocol::OpenFile& request) {
  ASSIGN_OR_RETURN(const OpenVerdict verdict, policy_.judge(request));
  return open_allowed(verdict, request.path);
}

Result<UniqueFd> FileOpener::open(const protocol::OpenBlockDevice& request) {
  ASSIGN_OR_RETURN(const OpenVerdict verdict, policy_.judge(request));
  ASSIGN_OR_RETURN(UniqueFd fd, open_allowed(verdict, request.path));
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) return fail_last();
  if (!S_ISBLK(status.st_mode)) return fail(ENOTBLK);
  if (request.block_size == 0) return fd;
  // On the descriptor that holds the exclusive claim; on any other the kernel says EBUSY.
  const bool is_claim = (verdict.flags & O_EXCL) != 0;
  if (verdict.what == OpenVerdict::What::kDevice && !is_claim) {
    RETURN_IF_ERROR(source_.set_block_size(request.block_size));
    return fd;
  }
  if (verdict.what == OpenVerdict::What::kJournalDevice) return fail(EINVAL);
  const int size = static_cast<int>(request.block_size);
  if (::ioctl(fd.get(), BLKBSZSET, &size) != 0) return fail_last();
  return fd;
}

Result<UniqueFd> FileOpener::open_allowed(const OpenVerdict& verdict, const std::string& path) {
  switch (verdict.what) {
    case OpenVerdict::What::kDevice:
      return source_.reopen(verdict.flags);
    case OpenVerdict::What::kJournalDevice:
      return open_journal_device(verdict.flags);
    case OpenVerdict::What::kLog:
      return open_log();
    case OpenVerdict::What::kNotify:
      return open_notify();
    case OpenVerdict::What::kPressure:
      return open_pressure();
    case OpenVerdict::What::kClone:
      return open_clone();
    case OpenVerdict::What::kAnyPath: {
      UniqueFd fd(::open(path.c_str(), verdict.flags | O_CLOEXEC | O_NOCTTY));
      if (!fd) return fail_last();
      return fd;
    }
  }
  return fail(EACCES);
}

Result<UniqueFd> FileOpener::open_journal_device(int flags) const {
  if (belongings_.journal == nullptr) return fail(EACCES);
  // The claim goes with the descriptor: the server holds it when this process is gone.
  if ((flags & O_DIRECT) == 0) return belongings_.journal->share_claim();
  return belongings_.journal->reopen(flags);
}

Result<UniqueFd> FileOpener::open_log() {
  if (logs_ == kMostOfAName) return fail(EMFILE);
  ++logs_;
  if (!belongings_.log_file) {
    if (auto socket = sockets_.connect(belongings_.journal_socket)) return socket;
  }
  UniqueFd fd(belongings_.log_file ? ::fcntl(belongings_.log_file.get(), F_DUPFD_CLOEXEC, 3)
                                   : ::open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail(EOPNOTSUPP);
  return fd;
}

Result<UniqueFd> FileOpener::open_notify() {
  if (belongings_.notify_socket.empty()) return fail(EOPNOTSUPP);
  if (notifiers_ == kMostOfAName) return fail(EMFILE);
  ++notifiers_;
  auto socket = sockets_.connect(belongings_.notify_socket);
  if (!socket) return fail(EOPNOTSUPP);
  return socket;
}

Result<UniqueFd> FileOpener::open_pressure() {
  while (pressure_files_ < belongings_.pressure_files.size()) {
    auto watched = watch_memory_pressure(belongings_.pressure_files[pressure_files_++]);
    if (watched) return watched;
  }
  return fail(EOPNOTSUPP);
}

Result<UniqueFd> FileOpener::open_clone() {
  if (clones_ == kMostClones) return fail(EMFILE);
  auto clone = clone_fuse_device(belongings_.fuse_device);
  if (!clone) return fail(EOPNOTSUPP);
  ++clones_;
  return clone;
}

}  // namespace fuse4fs::helper
