// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/records.h"

#include <algorithm>
#include <array>

#include "server/journal/checksum.h"

namespace fuse4fs::journal {
namespace {

constexpr std::array<std::byte, sizeof(std::uint32_t)> kNoChecksum{};

// Of a block whose own field at `field` counts as 0.
std::uint32_t block_checksum(std::span<const std::byte> block, std::size_t field, std::uint32_t seed) {
  const std::uint32_t value = crc32c(crc32c(seed, block.first(field)), kNoChecksum);
  return crc32c(value, block.subspan(field + kNoChecksum.size()));
}

Tag parse_tag(std::span<const std::byte> bytes, const JournalSuperblock& superblock) {
  Tag tag;
  tag.home = load32(bytes, tag_at::kBlockLow);
  if (superblock.has(kFeatureChecksumV3)) {
    tag.flags = load32(bytes, tag_at::kFlags32);
    tag.checksum = load32(bytes, tag_at::kChecksum32);
  } else {
    tag.flags = load16(bytes, tag_at::kFlags16);
    tag.checksum = load16(bytes, tag_at::kChecksum16);
  }
  if (superblock.has(kFeature64Bit)) tag.home |= std::uint64_t{load32(bytes, tag_at::kBlockHigh)} << 32;
  return tag;
}

}  // namespace

std::optional<BlockHeader> parse_header(std::span<const std::byte> block) {
  if (load32(block, kHeaderMagic) != kMagic) return std::nullopt;
  return BlockHeader{.kind = load32(block, kHeaderKind), .sequence = load32(block, kHeaderSequence)};
}

TagList parse_tags(std::span<const std::byte> block, const JournalSuperblock& superblock) {
  const std::size_t end = superblock.records_end();
  const std::size_t size = superblock.tag_size();
  TagList list;
  std::size_t offset = kHeaderSize;
  while (offset + size <= end) {
    list.tags.push_back(parse_tag(block.subspan(offset, size), superblock));
    offset += size;
    const std::uint32_t flags = list.tags.back().flags;
    if ((flags & kTagSameUuid) == 0) offset += kUuidSize;
    if ((flags & kTagLast) != 0) break;
  }
  list.leaves_block = offset > end;
  return list;
}

std::optional<std::vector<std::uint64_t>> parse_revokes(std::span<const std::byte> block,
                                                        const JournalSuperblock& superblock) {
  const std::size_t used = load32(block, kRevokeCount);
  if (used > superblock.records_end()) return std::nullopt;
  const std::size_t size = superblock.has(kFeature64Bit) ? 8 : 4;
  std::vector<std::uint64_t> blocks;
  for (std::size_t offset = kRevokeRecords; offset + size <= used; offset += size)
    blocks.push_back(size == 8 ? load64(block, offset) : load32(block, offset));
  return blocks;
}

CommitRecord parse_commit(std::span<const std::byte> block) {
  return {.checksum_type = std::to_integer<std::uint8_t>(block[commit_at::kChecksumType]),
          .checksum_size = std::to_integer<std::uint8_t>(block[commit_at::kChecksumSize]),
          .checksum = load32(block, commit_at::kChecksum),
          .seconds = load64(block, commit_at::kSeconds),
          .nanoseconds = load32(block, commit_at::kNanoseconds)};
}

bool tail_checksum_holds(std::span<const std::byte> block, const JournalSuperblock& superblock) {
  if (!superblock.block_checksums()) return true;
  const std::size_t field = block.size() - kTailSize;
  return load32(block, field) == block_checksum(block, field, superblock.checksum_seed);
}

CommitChecksum commit_checksum(std::span<const std::byte> block, const JournalSuperblock& superblock) {
  if (!superblock.block_checksums()) return CommitChecksum::kHolds;
  const std::uint32_t there = load32(block, commit_at::kChecksum);
  if (there == block_checksum(block, commit_at::kChecksum, superblock.checksum_seed))
    return CommitChecksum::kHolds;
  std::vector<std::byte> record(block.size());
  std::ranges::copy(block.first(commit_at::kEnd), record.begin());
  const bool holds = there == block_checksum(record, commit_at::kChecksum, superblock.checksum_seed);
  return holds ? CommitChecksum::kTornAfterRecord : CommitChecksum::kWrong;
}

bool data_checksum_holds(std::span<const std::byte> data, const Tag& tag, std::uint32_t sequence,
                         const JournalSuperblock& superblock) {
  if (!superblock.block_checksums()) return true;
  std::array<std::byte, sizeof(std::uint32_t)> number;
  store_big_endian(number, 0, sequence);
  const std::uint32_t value = crc32c(crc32c(superblock.checksum_seed, number), data);
  return tag.checksum == (superblock.has(kFeatureChecksumV3) ? value : value & 0xFFFF);
}

void unescape(std::span<std::byte> data) { store_big_endian<std::uint32_t>(data, 0, kMagic); }

}  // namespace fuse4fs::journal
