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

// Opcodes newer than the header, with their structs (protocol 7.39).
inline constexpr std::uint32_t kStatx = 52;

struct StatxTime {
  std::int64_t seconds;
  std::uint32_t nanoseconds;
  std::int32_t reserved;
};
struct StatxRequest {
  std::uint32_t getattr_flags;
  std::uint32_t reserved;
  std::uint64_t fh;
  std::uint32_t flags;  // AT_STATX_*
  std::uint32_t mask;   // STATX_*
};
struct StatxReply {
  std::uint64_t attr_valid;  // seconds
  std::uint32_t attr_valid_nsec;
  std::uint32_t flags;
  std::uint64_t spare[2];
  // As struct statx of the system call, from here on.
  std::uint32_t mask;
  std::uint32_t blksize;
  std::uint64_t attributes;
  std::uint32_t nlink;
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint16_t mode;
  std::uint16_t mode_spare;
  std::uint64_t ino;
  std::uint64_t size;
  std::uint64_t blocks;
  std::uint64_t attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  std::uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  std::uint64_t mnt_id;
  std::uint32_t dio_mem_align, dio_offset_align;  // bytes
  std::uint64_t subvol;
  std::uint32_t atomic_write_unit_min, atomic_write_unit_max;  // bytes
  std::uint32_t atomic_write_segments_max;
  std::uint32_t dio_read_offset_align;
  std::uint32_t atomic_write_unit_max_opt;
  std::uint32_t spare_word;
  std::uint64_t more_spare[8];
};
inline constexpr std::uint32_t kStatxDioAlign = 0x2000;                // STATX_DIOALIGN
inline constexpr std::uint32_t kStatxWriteAtomic = 0x10000;            // STATX_WRITE_ATOMIC
inline constexpr std::uint64_t kStatxAttributeWriteAtomic = 0x400000;  // STATX_ATTR_WRITE_ATOMIC
static_assert(sizeof(StatxRequest) == 24 && sizeof(StatxReply) == 288);
static_assert(offsetof(StatxReply, mask) == 32 && offsetof(StatxReply, btime) == 32 + 80 &&
              offsetof(StatxReply, rdev_major) == 32 + 128 &&
              offsetof(StatxReply, dio_mem_align) == 32 + 152 &&
              offsetof(StatxReply, atomic_write_unit_min) == 32 + 168);

// The caller's user id where mounts may be idmapped, in all requests but those that create something
// (FUSE_INVALID_UIDGID, protocol 7.41).
inline constexpr std::uint32_t kUnknownId = UINT32_MAX;

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
