// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/fuzz/volume_areas.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace fuse4fs::ext4::fuzz {
namespace {

constexpr std::size_t kSuperblockAt = 1024;
constexpr std::size_t kDescriptorsAt = 2 * kBlockSize;
constexpr std::uint32_t kOrphanMark = 0x0b10ca04;
constexpr std::uint32_t kBitsPerByte = 8;

template <class T>
void put(std::string& bytes, std::size_t offset, const T& value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

template <class T>
std::uint32_t crc32c(std::uint32_t seed, const T& value) {
  return ext2fs_crc32c_le(seed, reinterpret_cast<const unsigned char*>(&value), sizeof value);
}

std::uint32_t crc32c(std::uint32_t seed, const std::string& bytes, Region region) {
  return ext2fs_crc32c_le(seed, reinterpret_cast<const unsigned char*>(bytes.data()) + region.offset,
                          region.length);
}

// CRC-16 (x^16 + x^15 + x^2 + 1, reflected); libext2fs keeps its own to itself.
std::uint16_t crc16(std::uint16_t crc, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    crc = static_cast<std::uint16_t>(crc ^ std::to_integer<unsigned>(byte));
    for (int bit = 0; bit < 8; ++bit)
      crc = static_cast<std::uint16_t>((crc & 1) != 0 ? (crc >> 1) ^ 0xa001 : crc >> 1);
  }
  return crc;
}

std::uint32_t seed_of_inode(const std::string& bytes, std::uint32_t seed, InodeNumber number, Region inode) {
  const auto generation = at<std::uint32_t>(bytes, inode.offset + offsetof(ext2_inode, i_generation));
  return crc32c(crc32c(seed, number), generation);
}

void seal_inode(std::string& bytes, std::uint32_t seed, InodeNumber number, Region inode) {
  constexpr std::size_t kLow =
      offsetof(ext2_inode, osd2) + offsetof(decltype(ext2_inode::osd2.linux2), l_i_checksum_lo);
  constexpr std::size_t kHigh = offsetof(ext2_inode_large, i_checksum_hi);
  const bool has_high =
      inode.length > EXT2_GOOD_OLD_INODE_SIZE &&
      at<std::uint16_t>(bytes, inode.offset + offsetof(ext2_inode_large, i_extra_isize)) >= 4;
  put(bytes, inode.offset + kLow, std::uint16_t{0});
  if (has_high) put(bytes, inode.offset + kHigh, std::uint16_t{0});
  const std::uint32_t crc = crc32c(seed_of_inode(bytes, seed, number, inode), bytes, inode);
  put(bytes, inode.offset + kLow, static_cast<std::uint16_t>(crc));
  if (has_high) put(bytes, inode.offset + kHigh, static_cast<std::uint16_t>(crc >> 16));
}

void seal_extents(std::string& bytes, std::uint32_t inode_seed, std::size_t block) {
  const auto header = at<ext3_extent_header>(bytes, block);
  const std::size_t tail = sizeof header + std::size_t{header.eh_max} * sizeof(ext3_extent);
  if (header.eh_magic != EXT3_EXT_MAGIC || tail > kBlockSize - sizeof(std::uint32_t)) return;
  put(bytes, block + tail, crc32c(inode_seed, bytes, {block, tail}));
}

}  // namespace

VolumeAreas::VolumeAreas(const std::string& bytes) {
  const auto super = at<ext2_super_block>(bytes, kSuperblockAt);
  inode_size_ = super.s_inode_size;
  inodes_per_group_ = super.s_inodes_per_group;
  clusters_per_group_ = super.s_clusters_per_group;
  orphan_file_ = super.s_orphan_file_inum;
  const bool wide = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
  descriptor_size_ = wide ? super.s_desc_size : sizeof(ext2_group_desc);
  const std::size_t groups =
      (super.s_blocks_count - super.s_first_data_block + super.s_blocks_per_group - 1) /
      super.s_blocks_per_group;
  require(groups * descriptor_size_ <= kBlockSize, "descriptors of one block");
  for (std::size_t group = 0; group < groups; ++group) {
    const auto descriptor = at<ext2_group_desc>(bytes, kDescriptorsAt + group * descriptor_size_);
    tables_.push_back(descriptor.bg_inode_table * kBlockSize);
    bitmaps_.push_back({descriptor.bg_block_bitmap * kBlockSize, clusters_per_group_ / kBitsPerByte});
    bitmaps_.push_back({descriptor.bg_inode_bitmap * kBlockSize, inodes_per_group_ / kBitsPerByte});
  }
  find_map_blocks(bytes, kRootInode);
  for (InodeNumber number = kFirstFile; number <= kLastFile; ++number) {
    find_map_blocks(bytes, number);
    find_attributes(bytes, number);
  }
  if (orphan_file_ != 0) {
    const auto extent = at<ext3_extent>(
        bytes, inode(orphan_file_).offset + offsetof(ext2_inode, i_block) + sizeof(ext3_extent_header));
    for (std::size_t i = 0; i < extent.ee_len; ++i)
      orphan_blocks_.push_back((extent.ee_start + i) * kBlockSize);
  }
}

Region VolumeAreas::inode(InodeNumber number) const {
  const std::size_t group = (number - 1) / inodes_per_group_;
  return {tables_.at(group) + (number - 1) % inodes_per_group_ * inode_size_, inode_size_};
}

bool VolumeAreas::has_map(const std::string& bytes, InodeNumber number) const {
  const auto raw = at<ext2_inode>(bytes, inode(number).offset);
  return (LINUX_S_ISREG(raw.i_mode) || LINUX_S_ISDIR(raw.i_mode)) && (raw.i_flags & EXT4_INLINE_DATA_FL) == 0;
}

void VolumeAreas::find_map_blocks(const std::string& bytes, InodeNumber number) {
  if (!has_map(bytes, number)) return;
  const auto raw = at<ext2_inode>(bytes, inode(number).offset);
  if ((raw.i_flags & EXT4_EXTENTS_FL) == 0) {
    add_map_block(bytes, number, raw.i_block[EXT2_IND_BLOCK], 0);
    add_map_block(bytes, number, raw.i_block[EXT2_DIND_BLOCK], 1);
    return;
  }
  std::array<ext3_extent_idx, 5> root;  // the first one is the header
  static_assert(sizeof root == sizeof raw.i_block);
  std::memcpy(root.data(), raw.i_block, sizeof root);
  ext3_extent_header header;
  std::memcpy(&header, raw.i_block, sizeof header);
  for (std::size_t i = 1; header.eh_depth > 0 && i <= header.eh_entries; ++i)
    add_map_block(bytes, number, root.at(i).ei_leaf, header.eh_depth - 1);
}

// With those that hang on it.
void VolumeAreas::add_map_block(const std::string& bytes, InodeNumber owner, std::uint64_t block,
                                int levels_below) {
  if (block == 0) return;
  const std::size_t offset = block * kBlockSize;
  map_blocks_.push_back({owner, offset});
  if (levels_below == 0) return;
  const auto header = at<ext3_extent_header>(bytes, offset);
  const bool is_node = header.eh_magic == EXT3_EXT_MAGIC;
  const std::size_t count = is_node ? header.eh_entries : kBlockSize / sizeof(std::uint32_t);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t child =
        is_node ? at<ext3_extent_idx>(bytes, offset + (i + 1) * sizeof(ext3_extent_idx)).ei_leaf
                : at<std::uint32_t>(bytes, offset + i * sizeof(std::uint32_t));
    add_map_block(bytes, owner, child, levels_below - 1);
  }
}

void VolumeAreas::find_attributes(const std::string& bytes, InodeNumber number) {
  const auto raw = at<ext2_inode>(bytes, inode(number).offset);
  if (raw.i_links_count == 0) return;
  const std::size_t block = raw.i_file_acl * kBlockSize;
  // Inodes share them.
  if (block != 0 && std::ranges::find(attribute_blocks_, block) == attribute_blocks_.end())
    attribute_blocks_.push_back(block);
  if ((raw.i_flags & EXT4_EA_INODE_FL) == 0) return;
  const auto extent = at<ext3_extent>(
      bytes, inode(number).offset + offsetof(ext2_inode, i_block) + sizeof(ext3_extent_header));
  values_.push_back({number, {extent.ee_start * kBlockSize, extent.ee_len * kBlockSize}});
}

std::vector<Region> VolumeAreas::attributes() const {
  constexpr std::size_t kAt = offsetof(ext2_inode, i_file_acl);
  std::vector<Region> regions;
  for (InodeNumber number = kFirstFile; number <= kLastFile; ++number) {
    const Region whole = inode(number);
    regions.push_back({whole.offset + kAt, sizeof(std::uint32_t)});
    if (whole.length > sizeof(ext2_inode_large))
      regions.push_back({whole.offset + sizeof(ext2_inode_large), whole.length - sizeof(ext2_inode_large)});
  }
  for (const std::size_t block : attribute_blocks_) regions.push_back({block, kBlockSize});
  for (const Value& value : values_) {
    regions.push_back({inode(value.inode).offset, sizeof(ext2_inode)});
    regions.push_back(value.content);
  }
  return regions;
}

std::vector<Region> VolumeAreas::regions(Area area) const {
  std::vector<Region> regions;
  const auto add_files = [&] {
    for (InodeNumber number = kFirstFile; number <= kLastFile; ++number) regions.push_back(inode(number));
  };
  switch (area) {
    case Area::kSuperblock:
      return {{kSuperblockAt, SUPERBLOCK_SIZE}, {kDescriptorsAt, tables_.size() * descriptor_size_}};
    case Area::kInodes:
      add_files();
      regions.push_back(inode(kRootInode));
      return regions;
    case Area::kOrphans:
      regions.push_back({kSuperblockAt + offsetof(ext2_super_block, s_last_orphan), sizeof(std::uint32_t)});
      if (has_orphan_file()) regions.push_back({orphan_block(), 64});
      add_files();
      return regions;
    case Area::kDescriptors:
      return {{kDescriptorsAt, tables_.size() * descriptor_size_}};
    case Area::kBitmaps:
      return bitmaps_;
    case Area::kMaps: {
      const auto add_root = [&](InodeNumber number) {
        regions.push_back(
            {inode(number).offset + offsetof(ext2_inode, i_block), sizeof(ext2_inode::i_block)});
      };
      add_root(kRootInode);
      for (InodeNumber number = kFirstFile; number <= kLastFile; ++number) add_root(number);
      for (const MapBlock& block : map_blocks_) regions.push_back({block.offset, kBlockSize});
      return regions;
    }
    case Area::kAttributes:
      return attributes();
  }
  return regions;
}

void VolumeAreas::announce_orphans(std::string& bytes) const {
  if (!has_orphan_file()) return;
  constexpr std::size_t kAt = kSuperblockAt + offsetof(ext2_super_block, s_feature_ro_compat);
  put(bytes, kAt, at<std::uint32_t>(bytes, kAt) | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT);
}

// Of wherever the descriptor says that they lie.
void VolumeAreas::seal_bitmaps(std::string& bytes, std::uint32_t seed, std::size_t descriptor) const {
  const bool is_wide = descriptor_size_ >= sizeof(ext4_group_desc);
  const auto seal_one = [&](std::size_t block_at, std::uint32_t bits, std::size_t low, std::size_t high) {
    const Region bitmap{at<std::uint32_t>(bytes, descriptor + block_at) * kBlockSize, bits / kBitsPerByte};
    if (bitmap.offset + kBlockSize > bytes.size()) return;
    const std::uint32_t sum = crc32c(seed, bytes, bitmap);
    put(bytes, descriptor + low, static_cast<std::uint16_t>(sum));
    if (is_wide) put(bytes, descriptor + high, static_cast<std::uint16_t>(sum >> 16));
  };
  seal_one(offsetof(ext4_group_desc, bg_block_bitmap), clusters_per_group_,
           offsetof(ext4_group_desc, bg_block_bitmap_csum_lo),
           offsetof(ext4_group_desc, bg_block_bitmap_csum_hi));
  seal_one(offsetof(ext4_group_desc, bg_inode_bitmap), inodes_per_group_,
           offsetof(ext4_group_desc, bg_inode_bitmap_csum_lo),
           offsetof(ext4_group_desc, bg_inode_bitmap_csum_hi));
}

void VolumeAreas::seal(std::string& bytes) const {
  auto super = at<ext2_super_block>(bytes, kSuperblockAt);
  const bool full = (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0;
  const bool short_sums = (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_GDT_CSUM) != 0;
  const bool seeded = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_CSUM_SEED) != 0;
  const std::uint32_t seed = seeded ? super.s_checksum_seed : crc32c(~0U, super.s_uuid);
  if (full) {
    for (const Value& value : values_) {
      const std::size_t inode_at = inode(value.inode).offset;
      const std::size_t size = at<std::uint32_t>(bytes, inode_at + offsetof(ext2_inode, i_size));
      put(bytes, inode_at + offsetof(ext2_inode, i_atime),
          crc32c(seed, bytes, {value.content.offset, std::min(size, value.content.length)}));
    }
    for (const std::size_t block : attribute_blocks_) {
      constexpr std::size_t kSum = offsetof(ext2_ext_attr_header, h_checksum);
      put(bytes, block + kSum, 0U);
      put(bytes, block + kSum,
          crc32c(crc32c(seed, std::uint64_t{block / kBlockSize}), bytes, {block, kBlockSize}));
    }
    for (InodeNumber number = kFirstFile; number <= kLastFile; ++number)
      seal_inode(bytes, seed, number, inode(number));
    seal_inode(bytes, seed, kRootInode, inode(kRootInode));
    for (const MapBlock& block : map_blocks_)
      seal_extents(bytes, seed_of_inode(bytes, seed, block.owner, inode(block.owner)), block.offset);
  }
  for (const std::size_t block : orphan_blocks_) {
    constexpr std::size_t kEntries = kBlockSize - 2 * sizeof(std::uint32_t);
    const std::uint64_t number = block / kBlockSize;
    const std::uint32_t file_seed = seed_of_inode(bytes, seed, orphan_file_, inode(orphan_file_));
    put(bytes, block + kEntries, kOrphanMark);
    put(bytes, block + kEntries + sizeof kOrphanMark,
        full ? crc32c(crc32c(file_seed, number), bytes, {block, kEntries}) : 0U);
  }
  for (std::uint32_t group = 0; group < tables_.size(); ++group) {
    constexpr std::size_t kAt = offsetof(ext2_group_desc, bg_checksum);
    const Region descriptor{kDescriptorsAt + group * descriptor_size_, descriptor_size_};
    if (full) seal_bitmaps(bytes, seed, descriptor.offset);
    put(bytes, descriptor.offset + kAt, std::uint16_t{0});
    if (full) {
      put(bytes, descriptor.offset + kAt,
          static_cast<std::uint16_t>(crc32c(crc32c(seed, group), bytes, descriptor)));
    } else if (short_sums) {
      // Without the checksum's own place.
      constexpr std::size_t kBehind = kAt + sizeof(std::uint16_t);
      const auto whole = std::as_bytes(std::span(bytes)).subspan(descriptor.offset, descriptor.length);
      std::uint16_t crc = crc16(0xffff, std::as_bytes(std::span(super.s_uuid)));
      crc = crc16(crc, std::as_bytes(std::span(&group, 1)));
      crc = crc16(crc16(crc, whole.first(kAt)), whole.subspan(std::min(kBehind, whole.size())));
      put(bytes, descriptor.offset + kAt, crc);
    }
  }
  if (full)
    put(bytes, kSuperblockAt + offsetof(ext2_super_block, s_checksum),
        crc32c(~0U, bytes, {kSuperblockAt, offsetof(ext2_super_block, s_checksum)}));
}

}  // namespace fuse4fs::ext4::fuzz
