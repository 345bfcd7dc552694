// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/descriptor_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "base/activity.h"

namespace fuse4fs::cache {
namespace {

struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  bool block_device = false;
  std::uint64_t size = 0;
  std::size_t sector = 512;
};

Outcome<Identity> examine(int fd, Access access) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail(Errno::last(), "cannot examine the device's descriptor");
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail(Errno::last(), "cannot examine the device's descriptor");
  const int mode = flags & O_ACCMODE;
  if (mode == O_WRONLY || (access == Access::kReadWrite && mode != O_RDWR))
    return fail(Errno(EACCES), "the device was not opened for the access that the mount asks for");
  Identity identity;
  if (S_ISBLK(status.st_mode)) {
    int sector = 0;
    if (::ioctl(fd, BLKGETSIZE64, &identity.size) != 0 || ::ioctl(fd, BLKSSZGET, &sector) != 0)
      return fail(Errno::last(), "cannot ask the device for its size");
    identity.block_device = true;
    identity.device = status.st_rdev;
    identity.sector = static_cast<std::size_t>(sector);
  } else if (S_ISREG(status.st_mode)) {
    identity.device = status.st_dev;
    identity.inode = status.st_ino;
    identity.size = static_cast<std::uint64_t>(status.st_size);
  } else {
    return fail(Errno(ENOTBLK), "the volume is neither a block device nor a regular file");
  }
  if (!std::has_single_bit(identity.sector))
    return fail(Errno(EINVAL), fmt::format("the device's sectors have {} bytes", identity.sector));
  return identity;
}

// Calls `transfer` with an offset and the pieces that are left, until there are none.
template <class Transfer>
Result<void> transfer_all(Transfer transfer, std::uint64_t offset, std::span<const iovec> pieces) {
  // The kernel's IOV_MAX; a part of them is copied, since the first may be half done.
  std::array<iovec, 1024> batch;
  std::size_t inside = 0;  // of the first piece
  while (!pieces.empty()) {
    const std::size_t count = std::min(pieces.size(), batch.size());
    std::copy_n(pieces.begin(), count, batch.begin());
    batch[0].iov_base = static_cast<std::byte*>(batch[0].iov_base) + inside;
    batch[0].iov_len -= inside;
    if (length_of(std::span(batch).first(count)) == 0) {
      pieces = pieces.subspan(count);
      inside = 0;
      continue;
    }
    const ssize_t done = transfer(batch.data(), static_cast<int>(count), static_cast<off_t>(offset));
    if (done < 0) {
      if (errno == EINTR) continue;
      return fail_last();
    }
    if (done == 0) return fail(EIO);
    Activity::step();
    offset += static_cast<std::uint64_t>(done);
    inside += static_cast<std::size_t>(done);
    while (!pieces.empty() && inside >= pieces.front().iov_len) {
      inside -= pieces.front().iov_len;
      pieces = pieces.subspan(1);
    }
  }
  return {};
}

}  // namespace

Outcome<std::unique_ptr<DescriptorBackend>> DescriptorBackend::open(UniqueFd buffered, UniqueFd direct,
                                                                    Access access) {
  ASSIGN_OR_RETURN(const auto first, examine(buffered.get(), access));
  std::unique_ptr<DescriptorBackend> backend(new DescriptorBackend);
  backend->block_device_ = first.block_device;
  backend->geometry_ = {.size = first.size, .sector = first.sector, .has_direct = static_cast<bool>(direct)};
  if (direct) {
    ASSIGN_OR_RETURN(const auto second, examine(direct.get(), access));
    if (second.device != first.device || second.inode != first.inode || second.size != first.size ||
        second.block_device != first.block_device)
      return fail(Errno(EINVAL), "the two descriptors are of different devices");
    backend->direct_ = std::move(direct);
  }
  backend->buffered_ = std::move(buffered);
  return backend;
}

Result<void> DescriptorBackend::read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) {
  const int fd = descriptor(path);
  return transfer_all(
      [fd](const iovec* batch, int count, off_t at) { return ::preadv(fd, batch, count, at); }, offset,
      pieces);
}

Result<void> DescriptorBackend::write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                                      Durability durability) {
  const int fd = descriptor(path);
  RETURN_IF_ERROR(
      transfer_all([fd](const iovec* batch, int count, off_t at) { return ::pwritev(fd, batch, count, at); },
                   offset, pieces));
  // pwritev2(2) with RWF_DSYNC would need no flush of all else, but may not be allowed: its RWF_NOAPPEND lets
  // a taken-over server write over its log.
  return durability == Durability::kAtOnce ? flush() : Result<void>();
}

Result<void> DescriptorBackend::flush() {
  while (::fdatasync(buffered_.get()) != 0) {
    if (errno != EINTR) return fail_last();
  }
  Activity::step();
  return {};
}

Result<void> DescriptorBackend::discard(std::uint64_t offset, std::uint64_t length) {
  if (!block_device_) {
    if (::fallocate(buffered_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(length)) != 0)
      return fail_last();
    Activity::step();
    return {};
  }
  std::uint64_t range[] = {offset, length};
  while (::ioctl(buffered_.get(), BLKDISCARD, range) != 0) {
    if (errno != EINTR) return fail_last();
  }
  Activity::step();
  return {};
}

// Read-ahead makes folios of many pages, in which file data and metadata lie side by side. Where data that
// goes through the page cache makes one dirty behind a direct write of its neighbour, the kernel tells us of
// a lost write that is none (EIO of the next fdatasync(2), seen on 6.18).
void DescriptorBackend::stop_read_ahead() {
  if (direct_) ::posix_fadvise(buffered_.get(), 0, 0, POSIX_FADV_RANDOM);
}

Result<void> DescriptorBackend::can_discard() {
  if (!block_device_) return {};
  // Never a range: either the device cannot, which the kernel looks at first, or this is refused.
  std::uint64_t range[] = {1, 1};
  if (::ioctl(buffered_.get(), BLKDISCARD, range) != 0 && errno == EOPNOTSUPP) return fail(EOPNOTSUPP);
  return {};
}

}  // namespace fuse4fs::cache
