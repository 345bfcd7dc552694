// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/superblock_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "server/ext4/crc32c.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {
namespace {

struct FeatureName {
  std::uint32_t bit;
  std::string_view name;
  std::string_view reason;  // why it is refused, for people
};

constexpr std::uint32_t kKnownCompat = EXT2_FEATURE_COMPAT_DIR_PREALLOC | EXT2_FEATURE_COMPAT_IMAGIC_INODES |
                                       EXT3_FEATURE_COMPAT_HAS_JOURNAL | EXT2_FEATURE_COMPAT_EXT_ATTR |
                                       EXT2_FEATURE_COMPAT_RESIZE_INODE | EXT2_FEATURE_COMPAT_DIR_INDEX |
                                       EXT4_FEATURE_COMPAT_SPARSE_SUPER2 | EXT4_FEATURE_COMPAT_FAST_COMMIT |
                                       EXT4_FEATURE_COMPAT_STABLE_INODES | EXT4_FEATURE_COMPAT_ORPHAN_FILE;

constexpr std::uint32_t kServedIncompat =
    EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER | EXT2_FEATURE_INCOMPAT_META_BG |
    EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_MMP |
    EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_CSUM_SEED |
    EXT4_FEATURE_INCOMPAT_LARGEDIR | EXT4_FEATURE_INCOMPAT_INLINE_DATA;

constexpr std::uint32_t kWritableRoCompat =
    EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
    EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
    EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_BIGALLOC |
    EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_PROJECT;

// Those that are refused somewhere.
constexpr std::array kIncompatNames = {
    FeatureName{EXT2_FEATURE_INCOMPAT_COMPRESSION, "compression", "file data would be read still compressed"},
    FeatureName{EXT4_FEATURE_INCOMPAT_DIRDATA, "dirdata", "directory entries hold more than names"},
    FeatureName{EXT4_FEATURE_INCOMPAT_ENCRYPT, "encrypt", "there are no keys here"},
    FeatureName{EXT4_FEATURE_INCOMPAT_CASEFOLD, "casefold", "names are compared without case"},
};
constexpr std::array kRoCompatNames = {
    FeatureName{EXT4_FEATURE_RO_COMPAT_HAS_SNAPSHOT, "has_snapshot", "the snapshots would go wrong"},
    FeatureName{EXT4_FEATURE_RO_COMPAT_QUOTA, "quota", "the quota files would go wrong"},
    FeatureName{EXT4_FEATURE_RO_COMPAT_REPLICA, "replica", "its copies would go out of step"},
    FeatureName{EXT4_FEATURE_RO_COMPAT_READONLY, "read-only", "the volume asks not to be written"},
    FeatureName{EXT4_FEATURE_RO_COMPAT_SHARED_BLOCKS, "shared_blocks",
                "a write would change all files that share the block"},
    FeatureName{EXT4_FEATURE_RO_COMPAT_VERITY, "verity",
                "protected files could be changed, and what they hold is not verified"},
};

template <std::size_t kCount>
std::string names_of(std::uint32_t bits, const std::array<FeatureName, kCount>& names) {
  std::string text;
  for (; bits != 0; bits &= bits - 1) {
    const std::uint32_t bit = bits & -bits;
    const auto* const known =
        std::find_if(names.begin(), names.end(), [&](const auto& name) { return name.bit == bit; });
    if (!text.empty()) text += ", ";
    text += known != names.end() ? fmt::format("{} ({})", known->name, known->reason)
                                 : fmt::format("unknown bit {:#x} (made by something newer)", bit);
  }
  return text;
}

ext2_super_block parsed(std::span<const std::byte, kSuperblockSize> raw) {
  static_assert(sizeof(ext2_super_block) == kSuperblockSize);
  ext2_super_block super;
  std::memcpy(&super, raw.data(), sizeof super);
  // The first revision has no features.
  if (super.s_rev_level == EXT2_GOOD_OLD_REV)
    super.s_feature_compat = super.s_feature_incompat = super.s_feature_ro_compat = 0;
  return super;
}

std::unexpected<Failure> impossible(std::string_view words) {
  return fail(kCorrupted, fmt::format("the superblock is damaged: {}; try: e2fsck DEVICE", words));
}

Outcome<void> check_geometry(const ext2_super_block& super, std::uint64_t device_size) {
  if (super.s_rev_level > EXT2_DYNAMIC_REV)
    return fail(Errno(EINVAL), fmt::format("revision {} of the format is not known", super.s_rev_level));
  if (super.s_log_block_size > 6)
    return impossible(fmt::format("block size 2^{}", super.s_log_block_size + 10));
  const std::uint64_t block_size = std::uint64_t{1024} << super.s_log_block_size;
  const bool bigalloc = (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC) != 0;
  if (super.s_log_cluster_size < super.s_log_block_size || super.s_log_cluster_size > 19 ||
      (!bigalloc && super.s_log_cluster_size != super.s_log_block_size))
    return impossible(fmt::format("cluster size 2^{}", std::uint64_t{super.s_log_cluster_size} + 10));
  const std::uint32_t ratio_bits = super.s_log_cluster_size - super.s_log_block_size;

  const std::uint64_t inode_size =
      super.s_rev_level == EXT2_GOOD_OLD_REV ? EXT2_GOOD_OLD_INODE_SIZE : super.s_inode_size;
  if (inode_size < EXT2_GOOD_OLD_INODE_SIZE || inode_size > block_size || !std::has_single_bit(inode_size))
    return impossible(fmt::format("inodes of {} bytes", inode_size));
  const std::uint32_t first_inode =
      super.s_rev_level == EXT2_GOOD_OLD_REV ? EXT2_GOOD_OLD_FIRST_INO : super.s_first_ino;
  if (first_inode < EXT2_GOOD_OLD_FIRST_INO || first_inode > super.s_inodes_count)
    return impossible(fmt::format("first inode {}", first_inode));

  const bool wide = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
  const std::uint64_t descriptor_size = wide ? super.s_desc_size : EXT2_MIN_DESC_SIZE;
  if (wide && (descriptor_size < EXT2_MIN_DESC_SIZE_64BIT || descriptor_size > 1024 ||
               descriptor_size > block_size || !std::has_single_bit(descriptor_size)))
    return impossible(fmt::format("group descriptors of {} bytes", descriptor_size));

  const std::uint64_t group_bits = block_size * 8;
  if (super.s_clusters_per_group == 0 || super.s_clusters_per_group > group_bits ||
      super.s_clusters_per_group % 8 != 0 ||
      std::uint64_t{super.s_clusters_per_group} << ratio_bits != super.s_blocks_per_group)
    return impossible(fmt::format("{} blocks in a group", super.s_blocks_per_group));
  if (super.s_inodes_per_group == 0 || super.s_inodes_per_group > group_bits ||
      super.s_inodes_per_group % 8 != 0 || super.s_inodes_per_group < block_size / inode_size)
    return impossible(fmt::format("{} inodes in a group", super.s_inodes_per_group));
  const std::uint64_t table_blocks = (super.s_inodes_per_group * inode_size + block_size - 1) / block_size;
  if (table_blocks >= super.s_blocks_per_group) return impossible("an inode table larger than its group");
  if (super.s_log_groups_per_flex > 31)
    return impossible(fmt::format("2^{} groups in a flexible group", super.s_log_groups_per_flex));

  const std::uint64_t blocks =
      super.s_blocks_count | (wide ? std::uint64_t{super.s_blocks_count_hi} << 32 : 0);
  const std::uint32_t first = block_size == 1024 && !bigalloc ? 1 : 0;
  if (super.s_first_data_block != first)
    return impossible(fmt::format("first data block {}", super.s_first_data_block));
  if (blocks <= first) return impossible("no blocks");
  if (blocks > device_size / block_size)
    return fail(Errno(EINVAL),
                fmt::format("the volume is truncated: it says {} blocks of {} bytes, the device has {}",
                            blocks, block_size, device_size / block_size));
  const std::uint64_t groups = (blocks - first + super.s_blocks_per_group - 1) / super.s_blocks_per_group;
  if (groups * super.s_inodes_per_group != super.s_inodes_count)
    return impossible(fmt::format("{} inodes, where {} groups hold {} each", super.s_inodes_count, groups,
                                  super.s_inodes_per_group));
  const std::uint64_t per_block = block_size / descriptor_size;
  const std::uint64_t descriptor_blocks = (groups + per_block - 1) / per_block;
  const bool meta_bg = (super.s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG) != 0;
  if (meta_bg && super.s_first_meta_bg > descriptor_blocks)
    return impossible(fmt::format("first meta block group {}", super.s_first_meta_bg));
  if (first + 1 + descriptor_blocks > blocks) return impossible("more group descriptors than blocks");
  const std::uint64_t reserved =
      super.s_r_blocks_count | (wide ? std::uint64_t{super.s_r_blocks_count_hi} << 32 : 0);
  const std::uint64_t free =
      super.s_free_blocks_count | (wide ? std::uint64_t{super.s_free_blocks_hi} << 32 : 0);
  if (reserved > blocks || free > blocks || super.s_free_inodes_count > super.s_inodes_count)
    return impossible("more free blocks or inodes than there are");
  return {};
}

Outcome<void> check_features(const ext2_super_block& super, const MountOptions& options) {
  const bool writing = options.access == cache::Access::kReadWrite;
  if ((super.s_feature_incompat & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV) != 0)
    return fail(Errno(EINVAL), "this is the external journal of another volume, not a file system");
  if (const auto refused = super.s_feature_incompat & ~kServedIncompat; refused != 0)
    return fail(Errno(EOPNOTSUPP), fmt::format("the volume uses features that this server does not serve: {}",
                                               names_of(refused, kIncompatNames)));
  constexpr std::uint32_t kChecksums = EXT4_FEATURE_RO_COMPAT_GDT_CSUM | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0 &&
      super.s_checksum_type != EXT2_CRC32C_CHKSUM)
    return fail(Errno(EOPNOTSUPP), fmt::format("checksums of unknown type {}", super.s_checksum_type));
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC) != 0 &&
      (super.s_feature_incompat & EXT3_FEATURE_INCOMPAT_EXTENTS) == 0)
    return impossible("bigalloc without extents");
  if (!writing) return {};
  const std::uint32_t served = kWritableRoCompat | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT;
  const std::string refused = names_of(super.s_feature_ro_compat & ~served, kRoCompatNames);
  if (!refused.empty())
    return fail(
        Errno(EROFS),
        fmt::format("the volume can only be read, because of its features: {}; mount with -o ro", refused));
  if ((super.s_feature_ro_compat & kChecksums) == kChecksums)
    return impossible("both uninit_bg and metadata_csum are on");
  if (super.s_creator_os == EXT2_OS_HURD)
    return fail(Errno(EROFS), "the volume was made for the Hurd; mount with -o ro");
  return {};
}

// Geometry was checked.
Outcome<std::optional<MultiMountPlace>> place_of_multi_mount_block(const ext2_super_block& super) {
  if ((super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_MMP) == 0) return std::nullopt;
  const bool wide = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
  const std::uint64_t blocks =
      super.s_blocks_count | (wide ? std::uint64_t{super.s_blocks_count_hi} << 32 : 0);
  if (super.s_mmp_block <= super.s_first_data_block || super.s_mmp_block >= blocks)
    return impossible(fmt::format("block {} guards against mounting twice", super.s_mmp_block));
  MultiMountPlace place;
  place.offset = super.s_mmp_block << (10 + super.s_log_block_size);
  if (super.s_mmp_update_interval != 0)
    place.update_interval = std::chrono::seconds(
        std::min<std::uint16_t>(super.s_mmp_update_interval, EXT4_MMP_MAX_UPDATE_INTERVAL));
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0)
    place.checksum_seed = (super.s_feature_incompat & EXT4_FEATURE_INCOMPAT_CSUM_SEED) != 0
                              ? super.s_checksum_seed
                              : crc32c(~0U, super.s_uuid, sizeof super.s_uuid);
  return place;
}

}  // namespace

Outcome<SuperblockVerdict> judge_superblock(std::span<const std::byte, kSuperblockSize> raw,
                                            std::uint64_t device_size, const MountOptions& asked) {
  const ext2_super_block super = parsed(raw);
  if (super.s_magic != EXT2_SUPER_MAGIC) return fail(Errno(EINVAL), "no ext2, ext3 or ext4 volume is here");
  SuperblockVerdict verdict;
  MountOptions options = asked;
  // The quota files must follow each change of who owns how much: rather no change than wrong figures.
  if (options.access == cache::Access::kReadWrite &&
      (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_QUOTA) != 0) {
    verdict.access = options.access = cache::Access::kReadOnly;
    verdict.notices.emplace_back(
        "mounted read-only: the volume counts who owns how much (feature quota), and these figures cannot be "
        "kept up to date yet; to write to it: tune2fs -O ^quota DEVICE");
  }
  // First, so that what is known to be different is not called damaged.
  RETURN_IF_ERROR(check_features(super, options));
  RETURN_IF_ERROR(check_geometry(super, device_size));

  if (options.access == cache::Access::kReadWrite) {
    ASSIGN_OR_RETURN(verdict.multi_mount, place_of_multi_mount_block(super));
  } else {
    verdict.access = cache::Access::kReadOnly;
  }
  verdict.block_size = 1024U << super.s_log_block_size;
  if (const auto unknown = super.s_feature_compat & ~kKnownCompat; unknown != 0)
    verdict.notices.push_back(fmt::format("unknown compatible features {:#x} are left alone", unknown));
  if ((super.s_state & EXT2_ERROR_FS) != 0)
    verdict.notices.emplace_back("mounting a volume with errors, running e2fsck is recommended");
  else if ((super.s_state & EXT2_VALID_FS) == 0)
    verdict.notices.emplace_back("mounting an unchecked volume, running e2fsck is recommended");
  return verdict;
}

std::uint32_t superblock_checksum(const ext2_super_block& super) {
  return crc32c(~0U, &super, offsetof(ext2_super_block, s_checksum));
}

Outcome<void> check_superblock_checksum(std::span<const std::byte, kSuperblockSize> raw) {
  const ext2_super_block super = parsed(raw);
  if ((super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) == 0) return {};
  if (super.s_checksum == superblock_checksum(super)) return {};
  return fail(kCorrupted, "the superblock's checksum is wrong; try: e2fsck DEVICE");
}

}  // namespace fuse4fs::ext4
