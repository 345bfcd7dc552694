// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libmount/libmount.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>

#include "base/quoted.h"

namespace fuse4fs::helper {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
};

std::string kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISFIFO(mode)) return "a pipe";
  return "of an unknown kind";
}

bool means_write_protected(Errno error) {
  return error == Errno(EROFS) || error == Errno(EACCES) || error == Errno(EPERM);
}

struct Opened {
  UniqueFd fd;
  struct stat status = {};
  Access access = Access::kReadWrite;
};

std::unexpected<Failure> refuse_protected(const std::string& path) {
  return fail(Errno(EROFS), fmt::format("{} is write-protected; mount it with -o ro", quoted(path)));
}

// Opens the very thing that a descriptor stands for: no path is walked a second time.
UniqueFd open_again(int fd, int flags) {
  return UniqueFd(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), flags | O_CLOEXEC | O_NOCTTY));
}

// Looks first, since opening a pipe or a tape does things.
Outcome<Opened> open_device_or_image(const std::string& path, const SourceOptions& options) {
  Opened opened{.fd = {}, .access = options.access};
  // What was opened already is what was judged: the path may lead elsewhere by now.
  const UniqueFd place(options.place >= 0 ? ::fcntl(options.place, F_DUPFD_CLOEXEC, 3)
                                          : ::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!place || ::fstat(place.get(), &opened.status) != 0)
    return fail(Errno::last(), fmt::format("{}: {}", quoted(path), Errno::last().message()));
  if (!S_ISBLK(opened.status.st_mode) && !S_ISREG(opened.status.st_mode))
    return fail(Errno(ENOTBLK), fmt::format("{} is {}; a block device or an image file is needed",
                                            quoted(path), kind_of(opened.status.st_mode)));
  const auto try_open = [&](Access access) {
    const int mode = access == Access::kReadOnly ? O_RDONLY : O_RDWR;
    opened.fd = open_again(place.get(), mode);
    opened.access = access;
    return static_cast<bool>(opened.fd);
  };
  if (!try_open(options.access)) {
    const Errno error = Errno::last();
    if (options.access == Access::kReadOnly || !means_write_protected(error))
      return fail(error, fmt::format("{}: {}", quoted(path), error.message()));
    if (options.on_write_protection == OnWriteProtection::kRefuse) return refuse_protected(path);
    if (!try_open(Access::kReadOnly))
      return fail(Errno::last(), fmt::format("{}: {}", quoted(path), Errno::last().message()));
  }
  if (S_ISREG(opened.status.st_mode) && opened.status.st_size == 0)
    return fail(Errno(EINVAL),
                fmt::format("{} is an empty file; mkfs.ext4 makes a file system in it", quoted(path)));
  return opened;
}

}  // namespace

// libmount knows the tags (through libblkid), and keeps /dev/mapper's names.
Outcome<std::string> canonical_source(const std::string& spec) {
  const std::unique_ptr<char, Free> path(mnt_resolve_spec(spec.c_str(), nullptr));
  if (!path || *path != '/')
    return fail(Errno(ENOENT), fmt::format("{}: no such device or file", quoted(spec)));
  return std::string(path.get());
}

Outcome<Source> Source::open(const std::string& spec, const SourceOptions& options) {
  Source source;
  if (options.place >= 0) {
    source.path_ = spec;
  } else {
    ASSIGN_OR_RETURN(source.path_, canonical_source(spec));
  }
  ASSIGN_OR_RETURN(Opened opened, open_device_or_image(source.path_, options));
  const std::string name = source.path_;
  if (S_ISREG(opened.status.st_mode)) {
    ASSIGN_OR_RETURN(LoopDevice loop, make_loop_device(opened.fd.get(), name, opened.access));
    source.path_ = std::move(loop.path);
    opened.fd = std::move(loop.device);
  }
  source.device_ = std::move(opened.fd);
  if (::fstat(source.device_.get(), &opened.status) != 0 || !S_ISBLK(opened.status.st_mode))
    return fail(Errno(ENOTBLK), fmt::format("{} is not a block device", quoted(source.path_)));
  source.device_number_ = opened.status.st_rdev;

  int read_only = 0;
  if (::ioctl(source.device_.get(), BLKROGET, &read_only) == 0 && read_only != 0 &&
      opened.access == Access::kReadWrite) {
    if (options.on_write_protection == OnWriteProtection::kRefuse) return refuse_protected(name);
    opened.access = Access::kReadOnly;
  }
  source.access_ = opened.access;

  if (options.claim != Claim::kLeftToService) {
    const bool writes = options.claim == Claim::kHandedOver && source.access_ == Access::kReadWrite;
    auto claim = retry_while_busy([&] { return source.reopen((writes ? O_RDWR : O_RDONLY) | O_EXCL); },
                                  options.patience);
    if (!claim && claim.error() == Errno(EBUSY))
      return fail(claim.error(),
                  fmt::format("{} is in use: it is mounted, or part of another device (see findmnt -S {} "
                              "and lsblk)",
                              quoted(name), source.path_));
    if (!claim) return fail(claim.error(), fmt::format("{}: {}", quoted(name), claim.error().message()));
    source.claim_ = std::move(*claim);
  }
  return source;
}

Result<UniqueFd> Source::reopen(int flags) const {
  UniqueFd fd = open_again(device_.get(), flags);
  if (!fd) return fail_last();
  return fd;
}

Result<UniqueFd> Source::share_claim() const {
  UniqueFd fd(::fcntl(claim_.get(), F_DUPFD_CLOEXEC, 3));
  if (!fd) return fail_last();
  return fd;
}

Result<std::uint32_t> Source::sector_size() const {
  int size = 0;
  if (::ioctl(device_.get(), BLKSSZGET, &size) != 0) return fail_last();
  return static_cast<std::uint32_t>(size);
}

Result<void> Source::set_block_size(std::uint32_t bytes) const {
  const int size = static_cast<int>(bytes);
  if (::ioctl(claim_ ? claim_.get() : device_.get(), BLKBSZSET, &size) != 0) return fail_last();
  return {};
}

}  // namespace fuse4fs::helper
