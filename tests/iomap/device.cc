// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace fuse4fs::iomap_model {

Result<std::unique_ptr<Device>> Device::open(int fd) {
  UniqueFd own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own) return fail_last();
  struct stat status{};
  if (::fstat(own.get(), &status) != 0) return fail_last();
  auto size = static_cast<std::uint64_t>(status.st_size);
  if (S_ISBLK(status.st_mode)) {
    if (::ioctl(own.get(), BLKGETSIZE64, &size) != 0) return fail_last();
  } else if (!S_ISREG(status.st_mode)) {
    return fail(ENODEV);  // a file stands for a device in tests without one
  }
  return std::unique_ptr<Device>(new Device(std::move(own), size));
}

Result<void> Device::read(std::uint64_t address, std::span<std::byte> into) const {
  if (address > size_ || into.size() > size_ - address) return fail(EIO);
  while (!into.empty()) {
    const ssize_t got = ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(address));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fail(EIO);
    into = into.subspan(static_cast<std::size_t>(got));
    address += static_cast<std::uint64_t>(got);
  }
  return {};
}

Result<std::uint64_t> Device::write(std::uint64_t address, std::span<const std::byte> from) {
  if (address > size_ || from.size() > size_ - address) return fail(EIO);
  for (std::size_t left = failing_; left > 0;)
    if (failing_.compare_exchange_weak(left, left - 1)) return fail(EIO);
  while (!from.empty()) {
    const ssize_t put = ::pwrite(fd_.get(), from.data(), from.size(), static_cast<off_t>(address));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return fail(EIO);
    from = from.subspan(static_cast<std::size_t>(put));
    address += static_cast<std::uint64_t>(put);
  }
  return ++written_;
}

bool Device::is_zero(std::uint64_t address, std::uint64_t length) const {
  std::array<std::byte, 4096> bytes;
  while (length > 0) {
    const auto part = std::span(bytes).first(std::min<std::uint64_t>(length, bytes.size()));
    if (!read(address, part)) return false;
    if (std::ranges::any_of(part, [](std::byte byte) { return byte != std::byte{0}; })) return false;
    address += part.size();
    length -= part.size();
  }
  return true;
}

void Device::flush_ended(std::uint64_t began) {
  for (std::uint64_t known = flushed_; known < began;)
    if (flushed_.compare_exchange_weak(known, began)) return;
}

}  // namespace fuse4fs::iomap_model
