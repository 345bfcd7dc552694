// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/device.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "base/unique_fd.h"
#include "base/zeros.h"
#include "server/cache/descriptor_backend.h"

namespace fuse4fs::iomap_model {

Result<std::unique_ptr<Device>> Device::open(int fd, std::shared_ptr<cache::BlockBackend> medium) {
  if (!medium) {
    UniqueFd own(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own) return fail_last();
    // A file stands for a device in tests without one.
    auto opened = cache::DescriptorBackend::open(std::move(own), {}, cache::Access::kReadWrite);
    if (!opened) return fail(ENODEV);
    medium = std::move(*opened);
  }
  return std::unique_ptr<Device>(new Device(std::move(medium)));
}

Result<void> Device::read(std::uint64_t address, std::span<std::byte> into) const {
  if (address > size_ || into.size() > size_ - address) return fail(EIO);
  const iovec all = cache::piece_of(into);
  return medium_->read(kPath, address, std::span(&all, 1));
}

Result<std::uint64_t> Device::write(std::uint64_t address, std::span<const std::byte> from) {
  if (address > size_ || from.size() > size_ - address) return fail(EIO);
  for (std::size_t left = failing_; left > 0;)
    if (failing_.compare_exchange_weak(left, left - 1)) return fail(EIO);
  const iovec all = cache::piece_of(from);
  RETURN_IF_ERROR(medium_->write(kPath, address, std::span(&all, 1), cache::Durability::kAtNextFlush));
  return ++written_;
}

bool Device::is_zero(std::uint64_t address, std::uint64_t length) const {
  std::array<std::byte, 4096> bytes;
  while (length > 0) {
    const auto part = std::span(bytes).first(std::min<std::uint64_t>(length, bytes.size()));
    if (!read(address, part)) return false;
    if (!fuse4fs::is_zero(part)) return false;
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
