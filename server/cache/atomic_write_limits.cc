// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/atomic_write_limits.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstddef>
#include <cstring>

namespace fuse4fs::cache {
namespace {

// Newer than Debian 12's headers, whose struct has room for it.
constexpr unsigned kStatxWriteAtomic = 0x10000;
constexpr std::size_t kUnitMin = 168, kUnitMax = 172;  // bytes from the start of struct statx
static_assert(sizeof(struct statx) == 256);

}  // namespace

AtomicWriteLimits atomic_write_limits(int device_fd) {
  struct statx stat{};
  if (::statx(device_fd, "", AT_EMPTY_PATH, STATX_TYPE | kStatxWriteAtomic, &stat) != 0) return {};
  if ((stat.stx_mask & kStatxWriteAtomic) == 0 || !S_ISBLK(stat.stx_mode)) return {};
  std::array<std::byte, sizeof stat> bytes{};
  std::memcpy(bytes.data(), &stat, sizeof stat);
  AtomicWriteLimits limits;
  std::memcpy(&limits.unit_min, &bytes[kUnitMin], sizeof limits.unit_min);
  std::memcpy(&limits.unit_max, &bytes[kUnitMax], sizeof limits.unit_max);
  return limits;
}

}  // namespace fuse4fs::cache
