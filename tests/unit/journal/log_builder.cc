// SPDX-License-Identifier: GPL-2.0-or-later
#include "log_builder.h"

#include <algorithm>
#include <stdexcept>

namespace fuse4fs::journal::test {
namespace {

constexpr std::uint32_t kAllOnes = ~std::uint32_t{0};

// One bit at a time, so that the tables of the reader are checked by something that has none.
std::uint32_t slow_crc32c(std::uint32_t value, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    value ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? (value >> 1) ^ 0x82F63B78 : value >> 1;
  }
  return value;
}
std::uint32_t slow_crc32_be(std::uint32_t value, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    value ^= std::to_integer<std::uint32_t>(byte) << 24;
    for (int bit = 0; bit < 8; ++bit)
      value = (value & 0x80000000) != 0 ? (value << 1) ^ 0x04C11DB7 : value << 1;
  }
  return value;
}

std::array<std::byte, kUuidSize> journal_uuid() {
  std::array<std::byte, kUuidSize> uuid;
  for (std::size_t index = 0; index < uuid.size(); ++index)
    uuid[index] = static_cast<std::byte>(0xA0 + index);
  return uuid;
}
std::uint32_t checksum_seed() { return slow_crc32c(kAllOnes, journal_uuid()); }

std::uint32_t checksum_without(std::span<std::byte> block, std::size_t field, std::uint32_t seed) {
  store_big_endian<std::uint32_t>(block, field, 0);
  return slow_crc32c(seed, block);
}

}  // namespace

const std::vector<LogShape>& all_shapes() {
  static const std::vector<LogShape> kShapes = {
      {.name = "Version1", .version = 1, .incompatible = 0},
      {.name = "Plain"},
      {.name = "Plain64Bit", .incompatible = kFeatureRevoke | kFeature64Bit},
      {.name = "Blocks4k", .block_size = 4096, .incompatible = kFeatureRevoke | kFeature64Bit},
      {.name = "OneTagADescriptor", .tags_per_descriptor = 1},
      {.name = "FullListsWithoutLastTag", .mark_last_of_full = false},
      {.name = "UuidInEveryTag", .uuid_in_every_tag = true},
      {.name = "ChecksumV1", .compatible = kFeatureChecksum},
      {.name = "ChecksumV1Async",
       .compatible = kFeatureChecksum,
       .incompatible = kFeatureRevoke | kFeatureAsyncCommit | kFeature64Bit},
      {.name = "ChecksumV2", .incompatible = kFeatureRevoke | kFeatureChecksumV2},
      {.name = "ChecksumV2With64Bit", .incompatible = kFeatureRevoke | kFeatureChecksumV2 | kFeature64Bit},
      {.name = "ChecksumV3", .incompatible = kFeatureRevoke | kFeatureChecksumV3},
      {.name = "ChecksumV3With64Bit", .incompatible = kFeatureRevoke | kFeatureChecksumV3 | kFeature64Bit},
      {.name = "ChecksumV3FullLists",
       .incompatible = kFeatureRevoke | kFeatureChecksumV3 | kFeature64Bit,
       .mark_last_of_full = false},
      {.name = "ChecksumV3Async",
       .incompatible = kFeatureRevoke | kFeatureChecksumV3 | kFeature64Bit | kFeatureAsyncCommit},
      {.name = "FastCommit",
       .blocks = 1400,
       .incompatible = kFeatureRevoke | kFeatureChecksumV3 | kFeature64Bit | kFeatureFastCommit,
       .fast_commit_blocks = 100},
      {.name = "External", .own_block = 2, .first = 3, .start = 3, .users = 1},
  };
  return kShapes;
}

std::vector<std::byte> content_block(std::uint32_t block_size, std::uint32_t content) {
  std::vector<std::byte> bytes(block_size);
  for (std::size_t offset = 0; offset < block_size; offset += 4)
    store_big_endian(std::span(bytes), offset, content);
  return bytes;
}

LogBuilder::LogBuilder(LogShape shape)
    : shape_(std::move(shape)),
      image_(std::size_t{shape_.blocks} * shape_.block_size),
      place_(std::max(shape_.start, shape_.first)),
      sequence_(shape_.sequence) {
  const bool fast = (shape_.incompatible & kFeatureFastCommit) != 0;
  log_end_ = shape_.blocks - (fast ? (shape_.fast_commit_blocks == 0 ? 256 : shape_.fast_commit_blocks) : 0);
  auto raw = superblock_bytes();
  store_big_endian(raw, kHeaderMagic, kMagic);
  store_big_endian<std::uint32_t>(raw, kHeaderKind, shape_.version == 1 ? 3 : 4);
  store_big_endian(raw, superblock_at::kBlockSize, shape_.block_size);
  store_big_endian(raw, superblock_at::kMaxLength, shape_.blocks);
  store_big_endian(raw, superblock_at::kFirst, shape_.first);
  store_big_endian(raw, superblock_at::kSequence, shape_.sequence);
  store_big_endian(raw, superblock_at::kStart, shape_.start);
  if (shape_.version > 1) {
    store_big_endian(raw, superblock_at::kCompatible, shape_.compatible);
    store_big_endian(raw, superblock_at::kIncompatible, shape_.incompatible);
    std::ranges::copy(journal_uuid(), raw.subspan(superblock_at::kUuid).begin());
    store_big_endian(raw, superblock_at::kUserCount, shape_.users);
    store_big_endian(raw, superblock_at::kFastCommitBlocks, shape_.fast_commit_blocks);
    if (block_checksums()) raw[superblock_at::kChecksumType] = std::byte{kChecksumTypeCrc32c};
  }
  seal_superblock();
}

bool LogBuilder::block_checksums() const {
  return (shape_.incompatible & (kFeatureChecksumV2 | kFeatureChecksumV3)) != 0;
}

std::size_t LogBuilder::tag_bytes() const {
  if ((shape_.incompatible & kFeatureChecksumV3) != 0) return 16;
  const std::size_t fields = (shape_.incompatible & kFeature64Bit) != 0 ? 12 : 8;
  return (shape_.incompatible & kFeatureChecksumV2) != 0 ? fields + 2 : fields;
}

std::size_t LogBuilder::most_tags() const {
  const std::size_t room = shape_.block_size - 12 - (block_checksums() ? 4 : 0);
  const std::size_t fit = shape_.uuid_in_every_tag ? room / (tag_bytes() + 16) : ((room - 16) / tag_bytes());
  return shape_.tags_per_descriptor == 0 ? fit : std::min(fit, shape_.tags_per_descriptor);
}

std::span<std::byte> LogBuilder::block(std::uint32_t number) {
  return std::span(image_).subspan(std::size_t{number} * shape_.block_size, shape_.block_size);
}
std::span<std::byte> LogBuilder::superblock_bytes() { return block(shape_.own_block).first(1024); }

void LogBuilder::seal_superblock() {
  if (!block_checksums()) return;
  auto raw = superblock_bytes();
  store_big_endian(raw, 0xFC, checksum_without(raw, 0xFC, kAllOnes));
}
void LogBuilder::seal_tail(std::uint32_t log_block) {
  if (!block_checksums()) return;
  auto bytes = block(log_block);
  store_big_endian(bytes, bytes.size() - 4, checksum_without(bytes, bytes.size() - 4, checksum_seed()));
}
void LogBuilder::seal_commit(std::uint32_t log_block) {
  if (!block_checksums()) return;
  auto bytes = block(log_block);
  store_big_endian(bytes, 16, checksum_without(bytes, 16, checksum_seed()));
}

std::uint32_t LogBuilder::find(Part::Role role, std::uint32_t sequence, std::size_t nth) const {
  for (const Part& part : parts_) {
    if (part.role == role && part.sequence == sequence && nth-- == 0) return part.log_block;
  }
  throw std::out_of_range("no such part of the log");
}

std::span<std::byte> LogBuilder::take(Part::Role role) {
  parts_.push_back({.role = role, .log_block = place_, .sequence = sequence_});
  auto bytes = block(place_);
  if (++place_ == log_end_) place_ = shape_.first;
  return bytes;
}

void LogBuilder::write_header(std::span<std::byte> bytes, BlockKind kind) const {
  std::ranges::fill(bytes, std::byte{0});
  store_big_endian(bytes, kHeaderMagic, kMagic);
  store_big_endian(bytes, kHeaderKind, static_cast<std::uint32_t>(kind));
  store_big_endian(bytes, kHeaderSequence, sequence_);
}

void LogBuilder::add(const Transaction& transaction) {
  transaction_crc_ = kAllOnes;
  const std::size_t size = (shape_.incompatible & kFeature64Bit) != 0 ? 8 : 4;
  const std::size_t most = (shape_.block_size - 16 - (block_checksums() ? 4 : 0)) / size;
  for (std::span<const std::uint64_t> rest = transaction.revokes; !rest.empty();) {
    const std::size_t count = std::min(most, rest.size());
    write_revokes(rest.first(count));
    rest = rest.subspan(count);
  }
  for (std::span<const Copy> rest = transaction.copies; !rest.empty();) {
    const std::size_t count = std::min(most_tags(), rest.size());
    write_copies(rest.first(count));
    rest = rest.subspan(count);
  }
  if (transaction.commit) write_commit(transaction.seconds);
  ++sequence_;
}

void LogBuilder::write_revokes(std::span<const std::uint64_t> homes) {
  const std::uint32_t log_block = place_;
  auto bytes = take(Part::Role::kRevoke);
  write_header(bytes, BlockKind::kRevoke);
  std::size_t offset = 16;
  for (const std::uint64_t home : homes) {
    if ((shape_.incompatible & kFeature64Bit) != 0) {
      store_big_endian(bytes, offset, home);
      offset += 8;
    } else {
      store_big_endian(bytes, offset, static_cast<std::uint32_t>(home));
      offset += 4;
    }
  }
  store_big_endian(bytes, 12, static_cast<std::uint32_t>(offset));
  seal_tail(log_block);
}

void LogBuilder::write_copies(std::span<const Copy> copies) {
  const std::uint32_t log_block = place_;
  auto descriptor = take(Part::Role::kDescriptor);
  write_header(descriptor, BlockKind::kDescriptor);
  const std::size_t end = shape_.block_size - (block_checksums() ? 4 : 0);
  std::size_t offset = 12;
  std::vector<std::span<const std::byte>> written;
  for (std::size_t index = 0; index < copies.size(); ++index) {
    const Copy& copy = copies[index];
    auto data = take(Part::Role::kData);
    std::ranges::copy(content_block(shape_.block_size, copy.content), data.begin());
    std::uint32_t flags = 0;
    if (copy.content == kMagic) {
      flags |= kTagEscaped;
      store_big_endian<std::uint32_t>(data, 0, 0);
    }
    const bool same_uuid = index > 0 && !shape_.uuid_in_every_tag;
    if (same_uuid) flags |= kTagSameUuid;
    const std::size_t behind = offset + tag_bytes() + (same_uuid ? 0 : 16);
    const bool ends_with_block = behind + tag_bytes() > end;
    if (index + 1 == copies.size() && (shape_.mark_last_of_full || !ends_with_block)) flags |= kTagLast;
    write_tag(descriptor, offset, copy, flags, data);
    offset = behind;
    written.push_back(data);
  }
  seal_tail(log_block);
  transaction_crc_ = slow_crc32_be(transaction_crc_, descriptor);
  for (const auto data : written) transaction_crc_ = slow_crc32_be(transaction_crc_, data);
}

void LogBuilder::write_tag(std::span<std::byte> descriptor, std::size_t offset, const Copy& copy,
                           std::uint32_t flags, std::span<const std::byte> data) const {
  std::uint32_t checksum = 0;
  if (block_checksums()) {
    std::array<std::byte, 4> number;
    store_big_endian(number, 0, sequence_);
    checksum = slow_crc32c(slow_crc32c(checksum_seed(), number), data);
  }
  store_big_endian(descriptor, offset, static_cast<std::uint32_t>(copy.home));
  if ((shape_.incompatible & kFeatureChecksumV3) != 0) {
    store_big_endian(descriptor, offset + 4, flags);
    store_big_endian(descriptor, offset + 12, checksum);
  } else {
    store_big_endian(descriptor, offset + 4, static_cast<std::uint16_t>(checksum));
    store_big_endian(descriptor, offset + 6, static_cast<std::uint16_t>(flags));
  }
  if ((shape_.incompatible & kFeature64Bit) != 0)
    store_big_endian(descriptor, offset + 8, static_cast<std::uint32_t>(copy.home >> 32));
  if ((flags & kTagSameUuid) == 0)
    std::ranges::copy(journal_uuid(), descriptor.subspan(offset + tag_bytes()).begin());
}

void LogBuilder::write_commit(std::uint64_t seconds) {
  const std::uint32_t log_block = place_;
  auto bytes = take(Part::Role::kCommit);
  write_header(bytes, BlockKind::kCommit);
  store_big_endian(bytes, 48, seconds);
  if ((shape_.compatible & kFeatureChecksum) != 0) {
    bytes[12] = std::byte{kChecksumTypeCrc32};
    bytes[13] = std::byte{4};
    store_big_endian(bytes, 16, transaction_crc_);
  }
  seal_commit(log_block);
}

Result<void> LogBuilder::read(std::uint32_t first, std::span<std::byte> into) {
  const auto count = static_cast<std::uint32_t>(into.size() / shape_.block_size);
  if (into.size() % shape_.block_size != 0 || first >= shape_.blocks || count > shape_.blocks - first)
    return fail(EINVAL);
  for (std::uint32_t index = 0; index < count; ++index) ++reads_[first + index];
  std::ranges::copy(std::span(image_).subspan(std::size_t{first} * shape_.block_size, into.size()),
                    into.begin());
  return {};
}

}  // namespace fuse4fs::journal::test
