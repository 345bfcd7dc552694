// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/superblock.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/journal/checksum.h"
#include "server/journal/log_source.h"

namespace fuse4fs::journal {
namespace {

namespace at = superblock_at;

constexpr std::uint32_t kAllOnes = ~std::uint32_t{0};

Uuid load_uuid(std::span<const std::byte> raw, std::size_t offset) {
  Uuid uuid;
  std::ranges::transform(raw.subspan(offset, kUuidSize), uuid.begin(),
                         [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
  return uuid;
}

std::uint32_t superblock_checksum(std::span<const std::byte> raw) {
  constexpr std::array<std::byte, sizeof(std::uint32_t)> kNone{};
  std::uint32_t value = crc32c(kAllOnes, raw.first(at::kChecksum));
  value = crc32c(value, kNone);
  return crc32c(value, raw.subspan(at::kChecksum + kNone.size(), at::kSize - at::kChecksum - kNone.size()));
}

std::unexpected<Failure> contradiction(std::string words) {
  return fail(kCorrupted, fmt::format("the journal's superblock {}", words));
}
std::unexpected<Failure> unknown(std::string words) {
  return fail(Errno(EOPNOTSUPP), fmt::format("the journal's superblock {}", words));
}

// Version 2's fields: features, checksums.
Outcome<void> judge_features(std::span<const std::byte> raw, JournalSuperblock& superblock) {
  superblock.compatible = load32(raw, at::kCompatible);
  superblock.incompatible = load32(raw, at::kIncompatible);
  superblock.read_only_compatible = load32(raw, at::kReadOnlyCompatible);
  superblock.uuid = load_uuid(raw, at::kUuid);

  if (const auto bits = superblock.incompatible & ~kKnownIncompatible; bits != 0)
    return unknown(fmt::format("has unknown incompatible features ({:#x})", bits));
  if (superblock.read_only_compatible != 0)
    return unknown(fmt::format("has unknown features ({:#x})", superblock.read_only_compatible));
  // There are no incompatible ones among these: the kernel mounts.
  if (const auto bits = superblock.compatible & ~kFeatureChecksum; bits != 0)
    superblock.notices.push_back(fmt::format("the journal has unknown compatible features ({:#x})", bits));

  if (superblock.has(kFeatureChecksumV2) && superblock.has(kFeatureChecksumV3))
    return contradiction("has checksums v2 and v3 at once");
  if (superblock.block_checksums() && superblock.transaction_checksums())
    return contradiction("has checksums v1 and v2 or v3 at once");
  if (superblock.block_checksums()) {
    const auto type = std::to_integer<unsigned>(raw[at::kChecksumType]);
    if (type != kChecksumTypeCrc32c)
      return unknown(
          fmt::format("names checksum type {}; only crc32c ({}) is known", type, kChecksumTypeCrc32c));
    const std::uint32_t there = load32(raw, at::kChecksum);
    const std::uint32_t right = superblock_checksum(raw);
    if (there != right)
      return fail(
          Errno(EBADMSG),
          fmt::format("the journal's superblock has checksum {:#010x}, and not {:#010x}", there, right));
    superblock.checksum_seed = crc32c(kAllOnes, raw.subspan(at::kUuid, kUuidSize));
  }

  return {};
}

// Of an external journal; in an inode of the volume the fields mean nothing. As the kernel's ext4, which
// looks at them in version 1 as well: a journal of several volumes is not supported, and one that no volume
// has joined is nobody's.
Outcome<void> judge_users(std::span<const std::byte> raw, const JournalExpectation& expected,
                          JournalSuperblock& superblock) {
  const std::uint32_t users = load32(raw, at::kUserCount);
  if (users > kMaxUsers) return contradiction(fmt::format("says that {} volumes use it", users));
  if (users != 1)
    return unknown(fmt::format("says that {} it; an external journal must have exactly one user",
                               users == 0 ? "no volume uses" : fmt::format("{} volumes use", users)));
  superblock.users.push_back(load_uuid(raw, at::kUsers));
  // mke2fs names the user, but tune2fs of old did not follow when the volume got another UUID: the kernel
  // does not look here, the volume's own note of the journal's UUID decides.
  if (superblock.users.front() != expected.volume_uuid)
    superblock.notices.emplace_back("the external journal names another volume as its user");
  return {};
}

// Where records, and fast commits, may lie.
Outcome<void> judge_geometry(std::span<const std::byte> raw, JournalSuperblock& superblock) {
  std::uint32_t fast_commit_blocks = 0;
  if (superblock.has(kFeatureFastCommit)) {
    fast_commit_blocks = load32(raw, at::kFastCommitBlocks);
    if (fast_commit_blocks == 0) fast_commit_blocks = kDefaultFastCommitBlocks;
  }
  if (fast_commit_blocks > superblock.max_length || superblock.max_length - fast_commit_blocks < kMinBlocks)
    return contradiction(fmt::format("has {} blocks, {} of them for fast commits: less than {} are left",
                                     superblock.max_length, fast_commit_blocks, kMinBlocks));
  superblock.log_end = superblock.max_length - fast_commit_blocks;
  // The kernel leaves the first block of the area alone.
  superblock.fast_commit_first = superblock.log_end + (fast_commit_blocks == 0 ? 0 : 1);

  // The kernel's own lower bound for the ring.
  if (superblock.first <= superblock.own_block || superblock.first >= superblock.log_end ||
      superblock.log_end - superblock.first < kMinBlocks - 1)
    return contradiction(
        fmt::format("says that records start in block {} of {}", superblock.first, superblock.log_end));
  if (superblock.start != 0 &&
      (superblock.start < superblock.first || superblock.start >= superblock.log_end))
    return contradiction(
        fmt::format("says that the log starts in block {}, outside of its records ({} to {})",
                    superblock.start, superblock.first, superblock.log_end - 1));
  return {};
}

void write_checksum(std::span<std::byte> raw, const JournalSuperblock& judged) {
  if (judged.block_checksums()) store_big_endian(raw, at::kChecksum, superblock_checksum(raw));
}

}  // namespace

std::size_t JournalSuperblock::tag_size() const {
  if (has(kFeatureChecksumV3)) return 16;
  // With v2 the kernel makes each tag two bytes longer than its fields: the checksum was to be 32 bits wide
  // once.
  return (has(kFeature64Bit) ? 12 : 8) + (has(kFeatureChecksumV2) ? 2 : 0);
}

std::uint32_t JournalSuperblock::after(std::uint32_t block, std::uint32_t distance) const {
  return first + static_cast<std::uint32_t>((std::uint64_t{block - first} + distance) % ring());
}

Outcome<JournalSuperblock> judge_superblock(std::span<const std::byte> raw, std::uint32_t blocks_there,
                                            std::uint32_t own_block, const JournalExpectation& expected) {
  if (raw.size() < at::kSize) return fail(Errno(EINVAL), "the journal's superblock is cut short");
  raw = raw.first(at::kSize);
  if (load32(raw, kHeaderMagic) != kMagic) return contradiction("is not there: its magic is wrong");

  JournalSuperblock superblock;
  superblock.own_block = own_block;
  const std::uint32_t kind = load32(raw, kHeaderKind);
  const auto is = [&](BlockKind one) { return kind == static_cast<std::uint32_t>(one); };
  if (is(BlockKind::kDescriptor) || is(BlockKind::kCommit) || is(BlockKind::kRevoke))
    return contradiction(fmt::format("is not there: a record of kind {} is in its place", kind));
  if (!is(BlockKind::kSuperblockV1) && !is(BlockKind::kSuperblockV2))
    return unknown(fmt::format("is of an unknown format ({})", kind));
  superblock.version = is(BlockKind::kSuperblockV1) ? 1 : 2;
  superblock.block_size = load32(raw, at::kBlockSize);
  superblock.max_length = load32(raw, at::kMaxLength);
  superblock.first = load32(raw, at::kFirst);
  superblock.sequence = load32(raw, at::kSequence);
  superblock.start = load32(raw, at::kStart);
  superblock.error = static_cast<std::int32_t>(load32(raw, at::kError));

  if (superblock.block_size != expected.block_size)
    return contradiction(fmt::format("names blocks of {} bytes; the volume's have {}", superblock.block_size,
                                     expected.block_size));
  if (superblock.max_length > blocks_there)
    return contradiction(fmt::format("says that the journal has {} blocks; there are {}",
                                     superblock.max_length, blocks_there));
  if (superblock.version == 2) RETURN_IF_ERROR(judge_features(raw, superblock));
  if (expected.external) RETURN_IF_ERROR(judge_users(raw, expected, superblock));
  RETURN_IF_ERROR(judge_geometry(raw, superblock));
  return superblock;
}

Outcome<JournalSuperblock> read_superblock(LogSource& log, const JournalExpectation& expected) {
  if (log.block_size() != expected.block_size || log.block_size() < at::kSize ||
      log.superblock() >= log.blocks())
    return fail(kCorrupted, "the journal has no room for its superblock");
  std::vector<std::byte> block(log.block_size());
  if (auto read = log.read(log.superblock(), block); !read)
    return fail(read.error(),
                fmt::format("the journal's superblock (block {}) cannot be read", log.superblock()));
  return judge_superblock(block, log.blocks(), log.superblock(), expected);
}

void clear_superblock(std::span<std::byte> raw, const JournalSuperblock& judged,
                      std::uint32_t next_sequence) {
  store_big_endian<std::uint32_t>(raw, at::kSequence, next_sequence);
  store_big_endian<std::uint32_t>(raw, at::kStart, 0);
  if (judged.version == 2)
    store_big_endian<std::uint32_t>(raw, at::kIncompatible, judged.incompatible & ~kFeatureFastCommit);
  write_checksum(raw, judged);
}

void clear_error(std::span<std::byte> raw, const JournalSuperblock& judged) {
  store_big_endian<std::uint32_t>(raw, at::kError, 0);
  write_checksum(raw, judged);
}

}  // namespace fuse4fs::journal
