// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel's FUSE interface, from its own header, and what Debian 12's copy of that header (protocol 7.38)
// lacks.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

namespace fuse4fs::fuse {

// Room in front of the payload of a WRITE request.
inline constexpr std::size_t kWriteHeaderSize = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(kWriteHeaderSize == 80);
static_assert(sizeof(fuse_init_out) == 64 && offsetof(fuse_init_out, flags2) == 32);
static_assert(sizeof(fuse_entry_out) == 128 && sizeof(fuse_attr_out) == 104 && sizeof(fuse_attr) == 88);

// COPY_FILE_RANGE with an answer of 64 bits (protocol 7.45). The request is fuse_copy_file_range_in as
// before.
inline constexpr std::uint32_t kCopyFileRange64 = 53;
struct CopyFileRangeOut {
  std::uint64_t bytes_copied;
};

// Bytes of file data in one READ or WRITE: FUSE_MAX_PAGES lets it grow to 256 pages, the kernel's own limit
// (sysctl fs.fuse.max_pages_limit).
inline constexpr std::size_t kMaxTransfer = 1 << 20;

}  // namespace fuse4fs::fuse
