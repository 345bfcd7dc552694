// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/negotiation.h"

#include <fuse_lowlevel.h>

#include <algorithm>

#include "base/fuse_iomap_abi.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::fuse {
namespace {

constexpr unsigned kWantedCapabilities =
    FUSE_CAP_ASYNC_READ |       // read-ahead: several READs of one file at once
    FUSE_CAP_ASYNC_DIO |        // the pieces of a large direct transfer at once
    FUSE_CAP_PARALLEL_DIROPS |  // look-ups and listings in one directory at once
    FUSE_CAP_WRITEBACK_CACHE |  // write(2) into the page cache, WRITE when it is written back
    FUSE_CAP_IOCTL_DIR |        // FS_IOC_* on directories too
    FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |  // `ls -l` without a look-up for each name
    FUSE_CAP_CACHE_SYMLINKS |                           // READLINK once
    FUSE_CAP_EXPORT_SUPPORT;  // file handles of inodes that the kernel has forgotten: LOOKUP of "." and ".."
// Not wanted: SPLICE_* (libfuse opens a file in /proc for it), ATOMIC_O_TRUNC (there is no OPEN; truncation
// comes as SETATTR), POSIX_LOCKS and FLOCK_LOCKS (one machine: the kernel's own locks are right).

// The kernel asks for ACLs, keeps and checks them; it no longer applies the umask by itself, since a default
// ACL takes its place, but sends it.
constexpr unsigned kAclCapabilities = FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;

// Of protocol 7.41, newer than Debian 12's header.
constexpr std::uint64_t kAllowIdMap = std::uint64_t{1} << 40;
constexpr std::uint32_t kNewestMinor = 45;  // what this server was tried with

constexpr std::uint32_t kMaxReadAhead = 16 << 20;  // bytes; the mount's read_ahead_kb decides below it
constexpr std::uint16_t kMaxBackground = 64;       // requests in flight for read-ahead and write-back
constexpr std::uint16_t kCongestionThreshold = 48;

}  // namespace

void negotiate(void* user_data, fuse_conn_info* connection) {
  const auto& file_system = *static_cast<const ext4::FileSystem*>(user_data);
  connection->want = connection->capable & kWantedCapabilities;
  if (file_system.has_acls()) connection->want |= connection->capable & kAclCapabilities;
  connection->max_write = kMaxTransfer;
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kCongestionThreshold;
  connection->time_gran = file_system.time_granularity();
}

DataPath agreed_data_path(ext4::FileSystem& file_system, const InitOffer& offer) {
  const bool offered = (offer.flags & FUSE_INIT_EXT) != 0 && (offer.flags & iomap_abi::kInitIomap) != 0 &&
                       offer.minor >= iomap_abi::kProtocolMinor;
  const bool wanted =
      offer.options.iomap != SessionOptions::Iomap::kRefused && offer.options.block_device >= 0;
  return offered && wanted && file_system.mappings() != nullptr ? DataPath::kIomap : DataPath::kServer;
}

void complete_init_reply(std::span<iovec> reply, const InitOffer& offer) {
  if (reply.size() < 2 || reply[1].iov_len < sizeof(fuse_init_out)) return;
  auto* const out = static_cast<fuse_init_out*>(reply[1].iov_base);
  // Page-sized writes need no GETXATTR before each: the server drops setuid, setgid and capabilities when
  // told to.
  out->flags |= offer.flags & FUSE_HANDLE_KILLPRIV_V2;
  // libfuse 3.14 takes the wish for it and forgets to pass it on.
  out->flags |= offer.flags & FUSE_PARALLEL_DIROPS;
  // Decoded by us, not by libfuse.
  out->flags |= offer.flags & FUSE_SETXATTR_EXT;
  // Iomap files need no permission for it, and kernels of v7 fall when one that has both is opened to write:
  // what they keep for either lies in one place.
  if (offer.data_path == DataPath::kIomap || offer.options.page_cache == PageCache::kWriteThrough)
    out->flags &= ~std::uint32_t{FUSE_WRITEBACK_CACHE};
  out->max_readahead = kMaxReadAhead;
  std::uint64_t further = 0;  // of the second word, which libfuse 3.14 does not know
  if (offer.options.id_mapped_mounts == SessionOptions::IdMappedMounts::kAllowed) further |= kAllowIdMap;
  if (offer.data_path == DataPath::kIomap) further |= iomap_abi::kInitIomap;
  further &= offer.flags;
  if ((offer.flags & FUSE_INIT_EXT) == 0 || further == 0) return;
  out->flags |= FUSE_INIT_EXT;
  out->flags2 |= static_cast<std::uint32_t>(further >> 32);
  // Below it the kernel takes the flag, and then makes no inode an iomap one.
  const std::uint32_t newest = offer.data_path == DataPath::kIomap ? iomap_abi::kProtocolMinor : kNewestMinor;
  out->minor = std::max(out->minor, std::min(offer.minor, newest));
}

}  // namespace fuse4fs::fuse
