// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/journal_map.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "server/ext4/crc32c.h"
#include "server/ext4/errors.h"
#include "server/ext4/group_layout.h"
#include "server/journal/format.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kMostRuns = std::size_t{4} << 20;
constexpr int kDeepest = 5;                             // of an extent tree
constexpr std::uint32_t kLongestWritten = 1U << 15;     // longer ones mean unwritten
constexpr std::uint32_t kBackupIsBlocks = 1;            // EXT3_JNL_BACKUP_BLOCKS in s_jnl_backup_type
constexpr std::size_t kBackupSizeHigh = EXT2_N_BLOCKS;  // places in s_jnl_blocks
constexpr std::size_t kBackupSize = EXT2_N_BLOCKS + 1;
constexpr std::size_t kInodeChecksum = 0x7C;
constexpr std::size_t kInodeChecksumHigh = 0x82;
constexpr std::size_t kExtraSize = 0x80;

std::unexpected<Failure> wrong(std::string_view words) {
  return fail(kCorrupted, fmt::format("the journal cannot be found: {}; run: e2fsck DEVICE", words));
}

std::unexpected<Failure> unreadable(Errno error, std::string_view what, std::uint64_t block) {
  return fail(error,
              fmt::format("cannot read the journal's {} (block {}): {}", what, block, error.message()));
}

std::uint32_t checksum(std::uint32_t seed, std::span<const std::byte> bytes) {
  return crc32c(seed, bytes.data(), bytes.size());
}

template <class Number>
std::span<const std::byte> bytes_of(const Number& number) {
  return std::as_bytes(std::span(&number, 1));
}

// What is needed of the journal's inode, wherever it came from.
struct JournalInode {
  std::array<std::uint32_t, EXT2_N_BLOCKS> map{};
  std::uint64_t size = 0;  // bytes
  bool extents = false;
  std::optional<std::uint32_t> seed = {};  // of the checksums of its extent nodes
};

class MapReader {
 public:
  MapReader(const cache::BlockDevice& device, const ext2_super_block& super)
      : device_(device), super_(super), layout_(super) {}

  Outcome<JournalInode> inode() const;
  // Where the superblock holds one.
  [[nodiscard]] std::optional<JournalInode> copy_of_inode() const;
  // All of it mapped, each block once and in a place of its own.
  Outcome<std::vector<JournalMap::Run>> runs(const JournalInode& inode);
  // The log's first block is what a journal begins with.
  [[nodiscard]] bool begin_log(const std::vector<JournalMap::Run>& runs) const;
  // The log's blocks and those of its map.
  [[nodiscard]] std::vector<BlockRange> take_ranges() { return std::move(ranges_); }

 private:
  [[nodiscard]] bool has_checksums() const {
    return (super_.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) != 0;
  }
  Outcome<void> check_inode(std::vector<std::byte>& raw, std::uint32_t seed) const;
  Outcome<void> add(std::uint64_t log, std::uint64_t block, std::uint64_t count);
  Outcome<std::vector<std::byte>> read_map_block(std::uint64_t block);
  Outcome<void> walk_node(const JournalInode& inode, std::span<const std::byte> bytes, std::uint64_t block,
                          int depth);
  Outcome<void> walk_indirect(std::uint32_t pointer, int level);
  Outcome<void> settle();

  const cache::BlockDevice& device_;
  const ext2_super_block& super_;
  const GroupLayout layout_;
  std::uint64_t wanted_ = 0;  // blocks
  std::vector<JournalMap::Run> runs_;
  std::unordered_set<std::uint64_t> map_blocks_;
  std::vector<BlockRange> ranges_;
};

Outcome<JournalInode> MapReader::inode() const {
  const std::uint32_t number = super_.s_journal_inum;
  if (number == 0 || number > super_.s_inodes_count) return wrong(fmt::format("inode {}", number));
  const std::uint32_t group = (number - 1) / super_.s_inodes_per_group;
  const auto descriptor = layout_.read(device_, group);
  if (!descriptor)
    return unreadable(descriptor.error(), "group descriptor", layout_.descriptor_block_of(group));
  if (!layout_.is_inside(descriptor->inode_table, layout_.table_blocks()))
    return wrong(fmt::format("the inodes of group {} lie outside of the volume", group));
  const std::uint64_t offset = descriptor->inode_table * layout_.block_size() +
                               std::uint64_t{(number - 1) % super_.s_inodes_per_group} * layout_.inode_size();
  std::vector<std::byte> raw(layout_.inode_size());
  if (const auto read = device_.read(offset, raw); !read)
    return unreadable(read.error(), "inode", offset / layout_.block_size());

  ext2_inode_large disk{};
  std::memcpy(&disk, raw.data(), std::min(raw.size(), sizeof disk));
  if (disk.i_links_count == 0 || !S_ISREG(disk.i_mode) || (disk.i_flags & EXT4_INLINE_DATA_FL) != 0)
    return wrong(fmt::format("its inode {} is no regular file with blocks", number));
  JournalInode inode;
  if (has_checksums()) {
    std::uint32_t seed = (super_.s_feature_incompat & EXT4_FEATURE_INCOMPAT_CSUM_SEED) != 0
                             ? super_.s_checksum_seed
                             : checksum(~0U, std::as_bytes(std::span(super_.s_uuid)));
    seed = checksum(checksum(seed, bytes_of(number)), bytes_of(disk.i_generation));
    RETURN_IF_ERROR(check_inode(raw, seed));
    inode.seed = seed;
  }
  std::ranges::copy(disk.i_block, inode.map.begin());
  inode.size = disk.i_size | static_cast<std::uint64_t>(disk.i_size_high) << 32;
  inode.extents = (disk.i_flags & EXT4_EXTENTS_FL) != 0;
  return inode;
}

// `raw` loses its checksum.
Outcome<void> MapReader::check_inode(std::vector<std::byte>& raw, std::uint32_t seed) const {
  std::uint16_t low = 0;
  std::uint16_t high = 0;
  std::uint16_t extra = 0;
  std::memcpy(&low, raw.data() + kInodeChecksum, sizeof low);
  std::memset(raw.data() + kInodeChecksum, 0, sizeof low);
  if (raw.size() > EXT2_GOOD_OLD_INODE_SIZE) std::memcpy(&extra, raw.data() + kExtraSize, sizeof extra);
  const bool has_high = extra >= kInodeChecksumHigh + sizeof high - EXT2_GOOD_OLD_INODE_SIZE;
  if (has_high) {
    std::memcpy(&high, raw.data() + kInodeChecksumHigh, sizeof high);
    std::memset(raw.data() + kInodeChecksumHigh, 0, sizeof high);
  }
  const std::uint32_t right = checksum(seed, raw);
  if ((right & 0xFFFF) != low || (has_high && right >> 16 != high))
    return wrong(fmt::format("the checksum of its inode {} is wrong", super_.s_journal_inum));
  return {};
}

std::optional<JournalInode> MapReader::copy_of_inode() const {
  if (super_.s_jnl_backup_type != kBackupIsBlocks || super_.s_jnl_blocks[0] == 0) return std::nullopt;
  JournalInode inode;
  std::copy_n(super_.s_jnl_blocks, EXT2_N_BLOCKS, inode.map.begin());
  inode.size = super_.s_jnl_blocks[kBackupSize] |
               static_cast<std::uint64_t>(super_.s_jnl_blocks[kBackupSizeHigh]) << 32;
  inode.extents = (inode.map[0] & 0xFFFF) == EXT3_EXT_MAGIC;
  return inode;
}

Outcome<std::vector<JournalMap::Run>> MapReader::runs(const JournalInode& inode) {
  runs_.clear();
  map_blocks_.clear();
  ranges_.clear();
  wanted_ = inode.size / layout_.block_size();
  if (wanted_ == 0 || wanted_ > UINT32_MAX || wanted_ > layout_.blocks())
    return wrong(fmt::format("its inode {} has {} bytes", super_.s_journal_inum, inode.size));
  if (inode.extents) {
    RETURN_IF_ERROR(walk_node(inode, std::as_bytes(std::span(inode.map)), 0, -1));
  } else {
    for (std::size_t i = 0; i < EXT2_NDIR_BLOCKS && i < wanted_; ++i)
      RETURN_IF_ERROR(walk_indirect(inode.map[i], 0));
    for (int level = 1; level <= 3; ++level)
      RETURN_IF_ERROR(
          walk_indirect(inode.map[EXT2_NDIR_BLOCKS + static_cast<std::size_t>(level) - 1], level));
  }
  const std::uint64_t mapped = runs_.empty() ? 0 : std::uint64_t{runs_.back().log} + runs_.back().count;
  if (mapped < wanted_)
    return wrong(
        fmt::format("its block {} has no place on the volume (inode {})", mapped, super_.s_journal_inum));
  RETURN_IF_ERROR(settle());
  return std::move(runs_);
}

// Comes in the log's order. What lies behind the inode's end does not count.
Outcome<void> MapReader::add(std::uint64_t log, std::uint64_t block, std::uint64_t count) {
  if (!layout_.is_inside(block, count))
    return wrong(fmt::format("its block {} is said to be block {}, outside of the volume", log, block));
  const std::uint64_t mapped = runs_.empty() ? 0 : std::uint64_t{runs_.back().log} + runs_.back().count;
  if (log < mapped) return wrong(fmt::format("its block {} is mapped twice", log));
  if (log >= wanted_) return {};
  if (log > mapped) return wrong(fmt::format("its block {} has no place on the volume", mapped));
  count = std::min(count, wanted_ - log);
  if (!runs_.empty() && runs_.back().block + runs_.back().count == block) {
    runs_.back().count += static_cast<std::uint32_t>(count);
    return {};
  }
  if (runs_.size() == kMostRuns) return fail(Errno(E2BIG), "the journal is in more pieces than are served");
  runs_.push_back({static_cast<std::uint32_t>(log), static_cast<std::uint32_t>(count), block});
  return {};
}

Outcome<std::vector<std::byte>> MapReader::read_map_block(std::uint64_t block) {
  if (!layout_.is_inside(block, 1))
    return wrong(fmt::format("its map points to block {}, outside of the volume", block));
  // Each at most once: so a map without an end needs a volume without an end.
  if (!map_blocks_.insert(block).second) return wrong(fmt::format("block {} is twice in its map", block));
  std::vector<std::byte> bytes(layout_.block_size());
  if (const auto read = device_.read(block * layout_.block_size(), bytes); !read)
    return unreadable(read.error(), "map", block);
  return bytes;
}

Outcome<void> MapReader::walk_node(const JournalInode& inode, std::span<const std::byte> bytes,
                                   std::uint64_t block, int depth) {
  ext3_extent_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::size_t room = (bytes.size() - sizeof header) / sizeof(ext3_extent);
  const auto damaged = [&] {
    return wrong(block == 0 ? std::string("the extents in its inode are damaged")
                            : fmt::format("the extents in block {} are damaged", block));
  };
  if (header.eh_magic != EXT3_EXT_MAGIC || header.eh_entries > header.eh_max || header.eh_max > room ||
      header.eh_depth > kDeepest || (depth >= 0 && header.eh_depth != depth) ||
      ((header.eh_depth > 0 || block != 0) && header.eh_entries == 0))
    return damaged();
  if (block != 0 && inode.seed) {
    const std::size_t end = sizeof header + header.eh_max * sizeof(ext3_extent);
    std::uint32_t stored = 0;
    if (end + sizeof stored > bytes.size()) return damaged();
    std::memcpy(&stored, bytes.data() + end, sizeof stored);
    if (checksum(*inode.seed, bytes.first(end)) != stored)
      return wrong(fmt::format("the checksum of its extents in block {} is wrong", block));
  }
  for (std::size_t i = 0; i < header.eh_entries; ++i) {
    const std::byte* const at = bytes.data() + sizeof header + i * sizeof(ext3_extent);
    if (header.eh_depth == 0) {
      ext3_extent extent;
      std::memcpy(&extent, at, sizeof extent);
      if (extent.ee_len == 0) return damaged();
      // Never written: as the kernel, and as if it were not there.
      if (extent.ee_len > kLongestWritten) continue;
      RETURN_IF_ERROR(add(extent.ee_block,
                          extent.ee_start | static_cast<std::uint64_t>(extent.ee_start_hi) << 32,
                          extent.ee_len));
    } else {
      ext3_extent_idx index;
      std::memcpy(&index, at, sizeof index);
      const std::uint64_t child = index.ei_leaf | static_cast<std::uint64_t>(index.ei_leaf_hi) << 32;
      ASSIGN_OR_RETURN(const auto below, read_map_block(child));
      RETURN_IF_ERROR(walk_node(inode, below, child, header.eh_depth - 1));
    }
  }
  return {};
}

// Appends what it maps; the log's order is the only one there is.
Outcome<void> MapReader::walk_indirect(std::uint32_t pointer, int level) {
  const std::uint64_t mapped = runs_.empty() ? 0 : std::uint64_t{runs_.back().log} + runs_.back().count;
  if (mapped >= wanted_) return {};
  if (pointer == 0)
    return wrong(
        fmt::format("its block {} has no place on the volume (inode {})", mapped, super_.s_journal_inum));
  if (level == 0) return add(mapped, pointer, 1);
  ASSIGN_OR_RETURN(const auto bytes, read_map_block(pointer));
  for (std::size_t at = 0; at < bytes.size(); at += sizeof pointer) {
    std::uint32_t below = 0;
    std::memcpy(&below, bytes.data() + at, sizeof below);
    const std::uint64_t now = std::uint64_t{runs_.back().log} + runs_.back().count;
    if (now >= wanted_) return {};
    RETURN_IF_ERROR(walk_indirect(below, level - 1));
  }
  return {};
}

// Each block once, and none of the volume's own.
Outcome<void> MapReader::settle() {
  for (const auto& run : runs_) ranges_.emplace_back(run.block, run.block + run.count);
  for (const std::uint64_t block : map_blocks_) ranges_.emplace_back(block, block + 1);
  std::ranges::sort(ranges_);
  std::size_t kept = 0;
  for (std::size_t i = 1; i < ranges_.size(); ++i) {
    if (ranges_[i].first < ranges_[kept].second)
      return wrong(fmt::format("block {} is in it twice", ranges_[i].first));
    if (ranges_[i].first == ranges_[kept].second)
      ranges_[kept].second = ranges_[i].second;
    else
      ranges_[++kept] = ranges_[i];
  }
  ranges_.resize(kept + 1);

  std::optional<std::uint64_t> shared;
  const auto take = [&](std::uint64_t first, std::uint64_t count) {
    if (shared || count == 0) return;
    const auto behind = std::ranges::upper_bound(ranges_, first + count - 1, {}, &BlockRange::first);
    if (behind != ranges_.begin() && std::prev(behind)->second > first)
      shared = std::max(first, std::prev(behind)->first);
  };
  const auto read =
      layout_.for_each(device_, [&](std::uint32_t group, const GroupLayout::Descriptor& descriptor) {
        take(layout_.first_block_of(group), layout_.head_blocks_of(group));
        // What lies outside is judged after the replay.
        if (layout_.is_inside(descriptor.block_bitmap, 1)) take(descriptor.block_bitmap, 1);
        if (layout_.is_inside(descriptor.inode_bitmap, 1)) take(descriptor.inode_bitmap, 1);
        if (layout_.is_inside(descriptor.inode_table, layout_.table_blocks()))
          take(descriptor.inode_table, layout_.table_blocks());
      });
  if (!read)
    return fail(read.error(), fmt::format("cannot read the group descriptors: {}", read.error().message()));
  if (shared)
    return wrong(fmt::format("block {} is in it, and belongs to the volume's own structures", *shared));
  return {};
}

bool MapReader::begin_log(const std::vector<JournalMap::Run>& runs) const {
  std::array<std::byte, sizeof(std::uint32_t)> magic;
  return device_.read(runs.front().block * layout_.block_size(), magic) &&
         journal::load32(magic, 0) == journal::kMagic;
}

}  // namespace

Outcome<JournalMap> JournalMap::read(const cache::BlockDevice& device, const ext2_super_block& super) {
  MapReader reader(device, super);
  const auto by_inode = [&reader]() -> Outcome<std::vector<Run>> {
    ASSIGN_OR_RETURN(const auto inode, reader.inode());
    return reader.runs(inode);
  };
  auto runs = by_inode();
  JournalMap map;
  // An inode that is whole may lead elsewhere.
  const bool leads_astray = runs && !reader.begin_log(*runs);
  if (leads_astray || (!runs && runs.error().error == kCorrupted)) {
    if (const auto copy = reader.copy_of_inode()) {
      auto second = reader.runs(*copy);
      // What is wrong with the inode itself says more.
      if (second && (!leads_astray || reader.begin_log(*second))) {
        map.fallback_ =
            leads_astray
                ? wrong(fmt::format("its inode {} leads to no log", super.s_journal_inum)).error().message
                : runs.error().message;
        runs = std::move(second);
      } else if (leads_astray) {
        runs = by_inode();
      }
    }
  }
  if (!runs) return std::unexpected(std::move(runs.error()));
  map.runs_ = *std::move(runs);
  map.ranges_ = reader.take_ranges();
  map.blocks_ = map.runs_.back().log + map.runs_.back().count;
  return map;
}

JournalMap::Place JournalMap::find(std::uint32_t log) const {
  const auto behind = std::ranges::upper_bound(runs_, log, {}, &Run::log);
  const Run& run = *std::prev(behind);
  return {run.block + (log - run.log), run.count - (log - run.log)};
}

bool JournalMap::owns(std::uint64_t block) const {
  const auto behind = std::ranges::upper_bound(ranges_, block, {}, &BlockRange::first);
  return behind != ranges_.begin() && std::prev(behind)->second > block;
}

Result<void> InternalLog::read(std::uint32_t first, std::span<std::byte> into) {
  if (into.size() % block_size_ != 0 || first > map_.blocks() ||
      into.size() / block_size_ > map_.blocks() - first)
    return fail(EINVAL);
  while (!into.empty()) {
    const auto place = map_.find(first);
    const std::size_t length = std::min<std::uint64_t>(into.size(), std::uint64_t{place.count} * block_size_);
    RETURN_IF_ERROR(device_.read(place.block * block_size_, into.first(length)));
    into = into.subspan(length);
    first += static_cast<std::uint32_t>(length / block_size_);
  }
  return {};
}

}  // namespace fuse4fs::ext4
