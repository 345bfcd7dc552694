// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_blocks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "server/ext4/crc32c.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kShort = EXT2_GOOD_OLD_INODE_SIZE;
constexpr std::size_t kGeneration = offsetof(ext2_inode_large, i_generation);
constexpr std::size_t kLow = offsetof(ext2_inode_large, osd2.linux2.l_i_checksum_lo);
constexpr std::size_t kExtraSize = offsetof(ext2_inode_large, i_extra_isize);
constexpr std::size_t kHigh = offsetof(ext2_inode_large, i_checksum_hi);
constexpr cache::BlockRole kRole{.kind = cache::BlockKind::kInodeTable, .owner = 0};
constexpr std::size_t kHalf = sizeof(std::uint16_t);  // of a checksum

std::uint16_t half_at(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint16_t half = 0;
  std::memcpy(&half, bytes.data() + offset, sizeof half);
  return half;
}

void put_half(std::span<std::byte> bytes, std::size_t offset, std::uint32_t value) {
  const auto half = static_cast<std::uint16_t>(value);
  std::memcpy(bytes.data() + offset, &half, sizeof half);
}

// Whether it was never there.
bool is_empty(std::span<const std::byte> inode) {
  static constexpr std::array<std::byte, kShort> kZeros{};
  return std::memcmp(inode.data(), kZeros.data(), kZeros.size()) == 0;
}

// Whether only times, the version that goes with them, and the checksum differ.
bool differ_in_times(std::span<const std::byte> one, std::span<const std::byte> other) {
  constexpr std::size_t kTimes = offsetof(ext2_inode_large, i_atime);
  constexpr std::size_t kTimesEnd = offsetof(ext2_inode_large, i_dtime);
  constexpr std::size_t kVersion = offsetof(ext2_inode_large, osd1);
  constexpr std::size_t kVersionEnd = offsetof(ext2_inode_large, i_block);
  constexpr std::size_t kMoreTimesEnd = offsetof(ext2_inode_large, i_crtime);
  constexpr std::size_t kHighVersion = offsetof(ext2_inode_large, i_version_hi);
  const auto same = [&](std::size_t begin, std::size_t end) {
    end = std::min(end, one.size());
    return begin >= end || std::memcmp(one.data() + begin, other.data() + begin, end - begin) == 0;
  };
  return same(0, kTimes) && same(kTimesEnd, kVersion) && same(kVersionEnd, kLow) &&
         same(kLow + kHalf, kHigh) && same(kMoreTimesEnd, kHighVersion) &&
         same(kHighVersion + sizeof(std::uint32_t), one.size());
}

}  // namespace

InodeBlocks::InodeBlocks(struct_ext2_filsys& fs, const GroupDescriptors& groups, cache::BufferCache& cache,
                         journal::Journal& journal)
    : fs_(fs),
      groups_(groups),
      cache_(cache),
      journal_(journal),
      blocks_(ext2fs_blocks_count(fs.super)),
      inode_size_(EXT2_INODE_SIZE(fs.super)),
      inodes_per_block_(static_cast<std::uint32_t>(fs.blocksize / inode_size_)),
      has_checksums_(ext2fs_has_feature_metadata_csum(fs.super) != 0),
      writable_((fs.flags & EXT2_FLAG_RW) != 0) {}

errcode_t InodeBlocks::find(InodeNumber number, Place& place) const {
  const auto& super = *fs_.super;
  if (number == 0 || number > super.s_inodes_count) return EXT2_ET_BAD_INODE_NUM;
  const std::uint32_t group = (number - 1) / super.s_inodes_per_group;
  if (group >= fs_.group_desc_count) return EXT2_ET_BAD_INODE_NUM;
  const std::uint32_t in_group = (number - 1) % super.s_inodes_per_group;
  const std::uint64_t table = groups_.inode_table(group);
  if (table == 0) return EXT2_ET_MISSING_INODE_TABLE;
  if (table < super.s_first_data_block || table >= blocks_ || fs_.inode_blocks_per_group > blocks_ - table)
    return EXT2_ET_GDESC_BAD_INODE_TABLE;
  place.index = in_group % inodes_per_block_;
  place.block = table + in_group / inodes_per_block_;
  place.offset = place.index * inode_size_;
  return 0;
}

errcode_t InodeBlocks::begin(InodeNumber number) {
  Place place;
  if (const errcode_t code = find(number, place); code != 0) return code;
  const std::unique_lock lock(stripe_of(place).mutex);
  const auto buffer = journal_.get_new(place.block, kRole);
  return buffer ? 0 : buffer.error().value();
}

errcode_t InodeBlocks::open(InodeNumber number, Place& place) {
  if (const errcode_t code = find(number, place); code != 0) return code;
  // Any bytes may be inodes; what is wrong with one is no other's fault.
  const auto any = [](std::span<const std::byte>) -> Result<void> { return {}; };
  auto buffer = cache_.get(place.block, kRole, any);
  if (!buffer) return buffer.error().value();
  place.buffer = std::move(*buffer);
  return 0;
}

bool InodeBlocks::judge(InodeNumber number, Place& place) const {
  if (!has_checksums_) return true;
  const bool remembered = place.index < cache::Buffer::kMostParts;
  if (remembered && place.buffer.is_verified(place.index)) return true;
  if (!is_sound(number, place.inode(inode_size_))) return false;
  if (remembered) place.buffer.set_verified(place.index);
  return true;
}

// Whether the inode's fields reach as far.
bool InodeBlocks::has_high_checksum(std::span<const std::byte> inode) const {
  return inode_size_ > kShort && kShort + half_at(inode, kExtraSize) >= kHigh + kHalf;
}

std::uint32_t InodeBlocks::checksum_of(InodeNumber number, std::span<const std::byte> inode) const {
  static constexpr std::array<std::byte, kHalf> kZeros{};
  std::uint32_t sum = crc32c(fs_.csum_seed, &number, sizeof number);
  sum = crc32c(sum, inode.data() + kGeneration, sizeof(std::uint32_t));
  std::size_t done = 0;
  // Zeros in the place of the checksum's own halves.
  const auto pass_over = [&](std::size_t half) {
    sum = crc32c(sum, inode.data() + done, half - done);
    sum = crc32c(sum, kZeros.data(), kZeros.size());
    done = half + kHalf;
  };
  const bool has_high = has_high_checksum(inode);
  pass_over(kLow);
  if (has_high) pass_over(kHigh);
  sum = crc32c(sum, inode.data() + done, inode.size() - done);
  return has_high ? sum : sum & 0xffff;
}

bool InodeBlocks::is_sound(InodeNumber number, std::span<const std::byte> inode) const {
  if (!has_checksums_ || is_empty(inode)) return true;
  std::uint32_t stored = half_at(inode, kLow);
  if (has_high_checksum(inode)) stored |= std::uint32_t{half_at(inode, kHigh)} << 16;
  return stored == checksum_of(number, inode);
}

errcode_t InodeBlocks::read(InodeNumber number, std::span<std::byte> into) {
  Place place;
  if (const errcode_t code = open(number, place); code != 0) return code;
  const std::shared_lock lock(stripe_of(place).mutex);
  const auto inode = place.inode(inode_size_);
  if (!judge(number, place)) return EXT2_ET_INODE_CSUM_INVALID;
  std::memcpy(into.data(), inode.data(), std::min(into.size(), inode.size()));
  return 0;
}

errcode_t InodeBlocks::copy(InodeNumber number, EarlierInode& into) {
  Place place;
  if (const errcode_t code = open(number, place); code != 0) return code;
  const std::shared_lock lock(stripe_of(place).mutex);
  const auto inode = place.inode(inode_size_);
  into = {.block = place.block, .offset = place.offset, .bytes = {inode.begin(), inode.end()}};
  return 0;
}

errcode_t InodeBlocks::write(InodeNumber number, std::span<const std::byte> from, Rest rest) {
  Place place;
  if (const errcode_t code = open(number, place); code != 0) return code;
  if (!writable_.load(std::memory_order_relaxed)) return EXT2_ET_RO_FILSYS;
  // Hardly any volume has longer ones.
  std::array<std::byte, 512> usual;
  std::vector<std::byte> longer(inode_size_ > usual.size() ? inode_size_ : 0);
  const std::span<std::byte> image = longer.empty() ? std::span(usual).first(inode_size_) : std::span(longer);
  const std::size_t known = std::min(from.size(), image.size());
  std::memcpy(image.data(), from.data(), known);

  const std::unique_lock lock(stripe_of(place).mutex);
  const auto old = place.inode(inode_size_);
  if (rest == Rest::kKept)
    std::memcpy(image.data() + known, old.data() + known, image.size() - known);
  else
    std::memset(image.data() + known, 0, image.size() - known);
  if (has_checksums_) {
    const std::uint32_t sum = checksum_of(number, image);
    put_half(image, kLow, sum);
    if (has_high_checksum(image)) put_half(image, kHigh, sum >> 16);
  }
  if (std::memcmp(old.data(), image.data(), image.size()) == 0) return 0;
  const auto change = journal_.modify(place.buffer);
  if (!change) return change.error().value();
  journal_.last_changes().note(
      number, differ_in_times(old, image) ? journal::Changed::kTimes : journal::Changed::kMore);
  std::memcpy(change->bytes().data() + place.offset, image.data(), image.size());
  if (place.index < cache::Buffer::kMostParts) place.buffer.set_verified(place.index);
  return 0;
}

}  // namespace fuse4fs::ext4
