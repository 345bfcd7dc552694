// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/activity.h"

namespace fuse4fs::cache {
namespace {

// Direct transfers are kept to whole pages of the device's page cache: a page that holds both metadata
// written through the page cache and data written past it could otherwise be written back over the newer
// half.
constexpr std::size_t kPage = 4096;

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

template <class Transfer, class Byte>
Result<void> transfer_all(Transfer transfer, int fd, std::uint64_t offset, std::span<Byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = transfer(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (done < 0) {
      if (errno == EINTR) continue;
      return fail_last();
    }
    if (done == 0) return fail(EIO);
    Activity::step();
    bytes = bytes.subspan(static_cast<std::size_t>(done));
    offset += static_cast<std::uint64_t>(done);
  }
  return {};
}

bool aligned(std::uint64_t offset, const void* memory, std::size_t length, std::size_t alignment) {
  return ((offset | reinterpret_cast<std::uintptr_t>(memory) | length) & (alignment - 1)) == 0;
}

}  // namespace

Outcome<BlockDevice> BlockDevice::adopt(UniqueFd buffered, UniqueFd direct, Access access) {
  ASSIGN_OR_RETURN(const auto first, examine(buffered.get(), access));
  BlockDevice device;
  device.access_ = access;
  device.block_device_ = first.block_device;
  device.size_ = first.size;
  device.direct_alignment_ = std::max(kPage, first.sector);
  device.sector_ = first.sector;
  if (direct) {
    ASSIGN_OR_RETURN(const auto second, examine(direct.get(), access));
    if (second.device != first.device || second.inode != first.inode || second.size != first.size ||
        second.block_device != first.block_device)
      return fail(Errno(EINVAL), "the two descriptors are of different devices");
    device.direct_ = std::move(direct);
  }
  device.buffered_ = std::move(buffered);
  return device;
}

// Past the overlay.
Result<void> BlockDevice::read_below(int fd, std::uint64_t offset, std::span<std::byte> into) const {
  if (offset > size_ || into.size() > size_ - offset) return fail(EIO);
  return transfer_all(::pread, fd, offset, into);
}

Result<void> BlockDevice::read(std::uint64_t offset, std::span<std::byte> into) const {
  if (!overlay_) return read_below(buffered_.get(), offset, into);
  if (offset > size_ || into.size() > size_ - offset) return fail(EIO);
  return overlay_->read(offset, into, [this](std::uint64_t from, std::span<std::byte> part) {
    return read_below(buffered_.get(), from, part);
  });
}

Result<void> BlockDevice::write(std::uint64_t offset, std::span<const std::byte> from) const {
  // A regular file would grow.
  if (offset > size_ || from.size() > size_ - offset) return fail(EIO);
  if (access() != Access::kReadWrite) return fail(EROFS);
  if (overlay_) {
    return overlay_->write(offset, from, [this](std::uint64_t below, std::span<std::byte> part) {
      return read_below(buffered_.get(), below, part);
    });
  }
  return write_and_count(buffered_.get(), offset, from);
}

Result<void> BlockDevice::read_direct(std::uint64_t offset, std::span<std::byte> into) const {
  if (!direct_ || !aligned(offset, into.data(), into.size(), direct_alignment_) ||
      (overlay_ && overlay_->covers(offset, into.size())))
    return read(offset, into);
  return read_below(direct_.get(), offset, into);
}

Result<void> BlockDevice::write_direct(std::uint64_t offset, std::span<const std::byte> from) const {
  if (overlay_ || !direct_ || !aligned(offset, from.data(), from.size(), direct_alignment_))
    return write(offset, from);
  if (offset > size_ || from.size() > size_ - offset) return fail(EIO);
  if (access() != Access::kReadWrite) return fail(EROFS);
  return write_and_count(direct_.get(), offset, from);
}

// Counted also where it failed: a part may have been written.
Result<void> BlockDevice::write_and_count(int fd, std::uint64_t offset,
                                          std::span<const std::byte> from) const {
  auto written = transfer_all(::pwrite, fd, offset, from);
  ++writes_->done;
  return written;
}

Result<void> BlockDevice::read_past_cache(std::uint64_t offset, std::span<std::byte> into) const {
  if (!direct_ || !aligned(offset, into.data(), into.size(), sector_) ||
      (overlay_ && overlay_->covers(offset, into.size())))
    return read(offset, into);
  return read_below(direct_.get(), offset, into);
}

Result<void> BlockDevice::write_past_cache(std::uint64_t offset, std::span<const std::byte> from) const {
  if (overlay_ || !direct_ || !aligned(offset, from.data(), from.size(), sector_)) {
    RETURN_IF_ERROR(write(offset, from));
    return flush();
  }
  if (offset > size_ || from.size() > size_ - offset) return fail(EIO);
  if (access() != Access::kReadWrite) return fail(EROFS);
  return transfer_all(::pwrite, direct_.get(), offset, from);
}

Result<void> BlockDevice::discard(std::uint64_t offset, std::uint64_t length) const {
  if (offset > size_ || length > size_ - offset) return fail(EIO);
  if (access() != Access::kReadWrite || overlay_) return fail(EROFS);
  if (!block_device_) {
    if (::fallocate(buffered_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(length)) != 0)
      return fail_last();
    Activity::step();
    return {};
  }
  // Where the device is mounted the kernel refuses to drop what its page cache still has to write there, or
  // in the pages that the range shares with its neighbours.
  constexpr int kTries = 3;
  std::uint64_t range[] = {offset, length};
  for (int tried = 1; ::ioctl(buffered_.get(), BLKDISCARD, range) != 0; ++tried) {
    if (errno == EINTR) continue;
    if (errno != EBUSY || tried == kTries) return fail_last();
    RETURN_IF_ERROR(sync_page_cache());
  }
  Activity::step();
  return {};
}

Result<void> BlockDevice::can_discard() const {
  if (!block_device_) return {};
  // Never a range: either the device cannot, which the kernel looks at first, or this is refused.
  std::uint64_t range[] = {1, 1};
  if (::ioctl(buffered_.get(), BLKDISCARD, range) != 0 && errno == EOPNOTSUPP) return fail(EOPNOTSUPP);
  return {};
}

Result<void> BlockDevice::flush() const {
  if (access() != Access::kReadWrite || overlay_) return {};
  // Writes that return while this one waits are the next flush's.
  const std::uint64_t done = writes_->done;
  if (writes_->flushed >= done) return {};
  RETURN_IF_ERROR(sync_page_cache());
  std::uint64_t flushed = writes_->flushed;
  while (flushed < done && !writes_->flushed.compare_exchange_weak(flushed, done)) {
  }
  return {};
}

Result<void> BlockDevice::sync_page_cache() const {
  while (::fdatasync(buffered_.get()) != 0) {
    if (errno != EINTR) return fail_last();
  }
  Activity::step();
  return {};
}

void BlockDevice::close() {
  direct_.reset();
  buffered_.reset();
}

}  // namespace fuse4fs::cache
