// SPDX-License-Identifier: GPL-2.0-or-later
// What jbd2 writes to a log, byte by byte.
//
// Facts: the kernel's Documentation/filesystems/ext4/journal.rst, and what its fs/jbd2 does where that
// document is silent (fast commits, the checksum's place in the second tag form). Everything is big-endian;
// the fields are read from bytes by their offsets, so nothing depends on alignment or padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fuse4fs::journal {

// Every block of a log that is not data starts so: magic, kind, transaction.
inline constexpr std::uint32_t kMagic = 0xC03B3998;
inline constexpr std::size_t kHeaderSize = 12;
inline constexpr std::size_t kHeaderMagic = 0;
inline constexpr std::size_t kHeaderKind = 4;
inline constexpr std::size_t kHeaderSequence = 8;

enum class BlockKind : std::uint32_t {
  kDescriptor = 1,
  kCommit = 2,
  kSuperblockV1 = 3,
  kSuperblockV2 = 4,
  kRevoke = 5,
};

// The superblock: 1024 bytes at the start of its block.
namespace superblock_at {
inline constexpr std::size_t kSize = 1024;
inline constexpr std::size_t kBlockSize = 0x0C;
inline constexpr std::size_t kMaxLength = 0x10;  // blocks of the log, the superblock's included
inline constexpr std::size_t kFirst = 0x14;      // the first block of log records
inline constexpr std::size_t kSequence = 0x18;   // the transaction that is expected at kStart
inline constexpr std::size_t kStart = 0x1C;      // 0: nothing to replay
inline constexpr std::size_t kError = 0x20;      // why the journal was given up, a negative errno
// Version 2 only:
inline constexpr std::size_t kCompatible = 0x24;
inline constexpr std::size_t kIncompatible = 0x28;
inline constexpr std::size_t kReadOnlyCompatible = 0x2C;
inline constexpr std::size_t kUuid = 0x30;
inline constexpr std::size_t kUserCount = 0x40;
inline constexpr std::size_t kChecksumType = 0x50;
inline constexpr std::size_t kFastCommitBlocks = 0x54;  // 0: kDefaultFastCommitBlocks
inline constexpr std::size_t kHead = 0x58;              // where the next record goes; newer kernels only
inline constexpr std::size_t kChecksum = 0xFC;          // crc32c of the 1024 bytes, this field taken as 0
inline constexpr std::size_t kUsers = 0x100;            // UUIDs
}  // namespace superblock_at
inline constexpr std::size_t kUuidSize = 16;
inline constexpr std::uint32_t kMaxUsers = 48;
inline constexpr std::uint32_t kDefaultFastCommitBlocks = 256;
// What must be left of a log beside its fast-commit area.
inline constexpr std::uint32_t kMinBlocks = 1024;

// Compatible features.
inline constexpr std::uint32_t kFeatureChecksum = 0x1;  // checksum v1: a crc32 of the whole transaction

// Incompatible features.
inline constexpr std::uint32_t kFeatureRevoke = 0x1;
inline constexpr std::uint32_t kFeature64Bit = 0x2;
inline constexpr std::uint32_t kFeatureAsyncCommit = 0x4;
inline constexpr std::uint32_t kFeatureChecksumV2 = 0x8;
inline constexpr std::uint32_t kFeatureChecksumV3 = 0x10;
inline constexpr std::uint32_t kFeatureFastCommit = 0x20;
inline constexpr std::uint32_t kKnownIncompatible = kFeatureRevoke | kFeature64Bit | kFeatureAsyncCommit |
                                                    kFeatureChecksumV2 | kFeatureChecksumV3 |
                                                    kFeatureFastCommit;

// Values of superblock_at::kChecksumType and commit_at::kChecksumType.
inline constexpr std::uint8_t kChecksumTypeCrc32 = 1;
inline constexpr std::uint8_t kChecksumTypeCrc32c = 4;

// A tag of a descriptor block. With checksum v3 all four words are there; without it the flags and a half
// checksum share the second word, and the high half of the block number is there only with kFeature64Bit.
namespace tag_at {
inline constexpr std::size_t kBlockLow = 0;
inline constexpr std::size_t kChecksum16 = 4;
inline constexpr std::size_t kFlags16 = 6;
inline constexpr std::size_t kFlags32 = 4;  // v3
inline constexpr std::size_t kBlockHigh = 8;
inline constexpr std::size_t kChecksum32 = 12;  // v3
}  // namespace tag_at
inline constexpr std::uint32_t kTagEscaped = 0x1;   // the data began with kMagic, and 0 stands in its place
inline constexpr std::uint32_t kTagSameUuid = 0x2;  // otherwise 16 bytes of UUID follow the tag
inline constexpr std::uint32_t kTagDeleted = 0x4;   // never written
inline constexpr std::uint32_t kTagLast = 0x8;

// Last in a descriptor or revoke block with checksum v2 or v3: crc32c of the block, this field taken as 0.
inline constexpr std::size_t kTailSize = 4;

// A revoke block: the header, how many bytes of the block are in use, block numbers of 4 or 8 bytes.
inline constexpr std::size_t kRevokeCount = 12;
inline constexpr std::size_t kRevokeRecords = 16;

namespace commit_at {
inline constexpr std::size_t kChecksumType = 12;  // v1 only; 0 with a size and a checksum of 0: not filled in
inline constexpr std::size_t kChecksumSize = 13;
inline constexpr std::size_t kChecksum =
    16;  // v1: of the transaction. v2, v3: of this block, this field taken as 0
inline constexpr std::size_t kSeconds = 48;  // 64 bits
inline constexpr std::size_t kNanoseconds = 56;
inline constexpr std::size_t kEnd = 60;  // the kernel writes 0 from here on
}  // namespace commit_at

template <class Number>
Number load_big_endian(std::span<const std::byte> bytes, std::size_t offset) {
  Number value = 0;
  for (const std::byte byte : bytes.subspan(offset, sizeof(Number)))
    value = static_cast<Number>((std::uint64_t{value} << 8) | std::to_integer<std::uint64_t>(byte));
  return value;
}
inline std::uint16_t load16(std::span<const std::byte> bytes, std::size_t offset) {
  return load_big_endian<std::uint16_t>(bytes, offset);
}
inline std::uint32_t load32(std::span<const std::byte> bytes, std::size_t offset) {
  return load_big_endian<std::uint32_t>(bytes, offset);
}
inline std::uint64_t load64(std::span<const std::byte> bytes, std::size_t offset) {
  return load_big_endian<std::uint64_t>(bytes, offset);
}

template <class Number>
void store_big_endian(std::span<std::byte> bytes, std::size_t offset, Number value) {
  std::uint64_t rest = value;
  const auto field = bytes.subspan(offset, sizeof(Number));
  for (std::size_t at = sizeof(Number); at-- > 0; rest >>= 8) field[at] = static_cast<std::byte>(rest & 0xFF);
}

// Sequence numbers (transaction ids) wrap: `one` is newer than `other` where it is less than half the circle
// ahead.
inline bool newer(std::uint32_t one, std::uint32_t other) {
  return static_cast<std::int32_t>(one - other) > 0;
}

}  // namespace fuse4fs::journal
