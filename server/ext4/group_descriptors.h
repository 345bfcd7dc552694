// SPDX-License-Identifier: GPL-2.0-or-later
// What the descriptors of the block groups say, in libext2fs's array of them: where a group's structures lie,
// what is free in it, and the sums of all that the superblock has.
//
// A group has a lock, under which its bits and its figures change together. So they are right at all times;
// the checksums are made by the write-back that writes them.
//
// Facts: the kernel's Documentation/filesystems/ext4 (group descriptors). Without the feature that gives
// descriptors a checksum no bitmap is uninitialised, and tables have no unused part.
//
// Locking: figures may be read by anybody, and may be a moment old. They are changed under lock() of their
// group, bits are looked at under lock_shared() (rank kGroup: stripes over the groups; never two, and bitmaps
// are read under it). Errors: none.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/ext2.h"

namespace fuse4fs::ext4 {

using GroupNumber = std::uint32_t;

class GroupDescriptors {
 public:
  // The handle outlives it. Its superblock has the sums already.
  explicit GroupDescriptors(struct_ext2_filsys& fs);

  [[nodiscard]] GroupNumber count() const { return fs_.group_desc_count; }
  // First blocks.
  [[nodiscard]] std::uint64_t inode_bitmap(GroupNumber group) const {
    return place(group, offsetof(ext4_group_desc, bg_inode_bitmap),
                 offsetof(ext4_group_desc, bg_inode_bitmap_hi));
  }
  [[nodiscard]] std::uint64_t block_bitmap(GroupNumber group) const {
    return place(group, offsetof(ext4_group_desc, bg_block_bitmap),
                 offsetof(ext4_group_desc, bg_block_bitmap_hi));
  }
  [[nodiscard]] std::uint64_t inode_table(GroupNumber group) const {
    return place(group, offsetof(ext4_group_desc, bg_inode_table),
                 offsetof(ext4_group_desc, bg_inode_table_hi));
  }
  [[nodiscard]] unsigned cluster_bits() const { return static_cast<unsigned>(fs_.cluster_ratio_bits); }

  using Mutex = RankedMutex<std::shared_mutex, LockRank::kGroup>;
  static constexpr std::size_t kStripes = 64;
  [[nodiscard]] static std::size_t stripe_of(GroupNumber group) { return group % kStripes; }
  [[nodiscard]] std::unique_lock<Mutex> lock(GroupNumber group) {
    return std::unique_lock(stripes_[stripe_of(group)].mutex);
  }
  // For who only looks at bits.
  [[nodiscard]] std::shared_lock<Mutex> lock_shared(GroupNumber group) {
    return std::shared_lock(stripes_[stripe_of(group)].mutex);
  }

  // The bitmap is not written yet: all inodes are free; all blocks but the volume's own.
  [[nodiscard]] bool has_no_inodes(GroupNumber group) const { return has_flag(group, EXT2_BG_INODE_UNINIT); }
  [[nodiscard]] bool has_no_blocks(GroupNumber group) const { return has_flag(group, EXT2_BG_BLOCK_UNINIT); }
  [[nodiscard]] std::uint32_t free_inodes(GroupNumber group) const { return get(group, kFreeInodes); }
  [[nodiscard]] std::uint32_t used_directories(GroupNumber group) const { return get(group, kDirectories); }
  [[nodiscard]] std::uint32_t free_clusters(GroupNumber group) const { return get(group, kFreeClusters); }
  // At the end of the table, never used.
  [[nodiscard]] std::uint32_t unused_inodes(GroupNumber group) const;
  // Of the table, from its beginning: the others hold nothing but unused inodes.
  [[nodiscard]] std::uint32_t used_table_blocks(GroupNumber group) const;
  // What is unused of its table may hold anything.
  [[nodiscard]] bool has_stale_table(GroupNumber group) const {
    return has_checksums_ && !has_flag(group, EXT2_BG_INODE_ZEROED);
  }
  [[nodiscard]] std::uint64_t free_clusters() const { return free_clusters_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t free_inodes() const { return free_inodes_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t used_directories() const {
    return directories_.load(std::memory_order_relaxed);
  }

  // Those of the groups. Looks at all of them; for when nothing changes.
  [[nodiscard]] bool has_right_sums() const;

  // All that follows: under the group's lock.
  enum class What { kFile, kDirectory };
  // The inode in this place of the table was free and is not, or the other way round.
  void note_inode_taken(GroupNumber group, std::uint32_t index, What what);
  void note_inode_freed(GroupNumber group, What what);
  // What a count of all inodes found; the sum is left to set_sums().
  void set_inodes(GroupNumber group, std::uint32_t free, std::uint32_t directories, std::uint32_t unused);
  void set_free_inodes(std::uint64_t all) { free_inodes_ = all; }
  // Its bitmap is written from now on.
  void begin_inodes(GroupNumber group) {
    set(group, kUnusedInodes, fs_.super->s_inodes_per_group);
    clear_flag(group, EXT2_BG_INODE_UNINIT);
  }
  void begin_blocks(GroupNumber group) { clear_flag(group, EXT2_BG_BLOCK_UNINIT); }

  // Of so many, those that the volume can give while `kept` of all clusters stay: they count as taken. By any
  // thread.
  [[nodiscard]] std::uint64_t claim_clusters(std::uint64_t wanted, std::uint64_t kept);
  void return_claim(std::uint64_t claimed) { free_clusters_.fetch_add(claimed, std::memory_order_relaxed); }
  // So many of the group were taken, and so many claimed before: normally the same.
  void note_clusters_taken(GroupNumber group, std::uint64_t clusters, std::uint64_t claimed);
  void note_clusters_freed(GroupNumber group, std::uint64_t clusters);
  // What a count of all found.
  void set_free_clusters(GroupNumber group, std::uint32_t free);

  // Whether this is the checksum that the descriptor has for its bitmap.
  [[nodiscard]] bool is_inode_bitmap_sum(GroupNumber group, std::uint32_t sum) const {
    return is_sum(group, kInodeBitmapSum, sum);
  }
  void set_inode_bitmap_sum(GroupNumber group, std::uint32_t sum) { set(group, kInodeBitmapSum, sum); }
  [[nodiscard]] bool is_block_bitmap_sum(GroupNumber group, std::uint32_t sum) const {
    return is_sum(group, kBlockBitmapSum, sum);
  }
  void set_block_bitmap_sum(GroupNumber group, std::uint32_t sum) { set(group, kBlockBitmapSum, sum); }

  // When nothing changes: there are zeros.
  void note_table_initialised(GroupNumber group);
  // For a write-back, when nothing changes: the descriptors that it is to write; they with their checksums
  // into the cache, and the sums of all into the superblock. What could not be written is for the next one.
  void note_changed(GroupNumber group) { changed_.insert(group); }
  [[nodiscard]] bool has_changed() const { return !changed_.empty(); }
  Result<void> write(cache::BufferCache& cache);

 private:
  // Halves of a number; the high one is there where descriptors are long.
  struct Field {
    std::size_t low, high;
  };
  static constexpr Field kFreeClusters{offsetof(ext4_group_desc, bg_free_blocks_count),
                                       offsetof(ext4_group_desc, bg_free_blocks_count_hi)};
  static constexpr Field kFreeInodes{offsetof(ext4_group_desc, bg_free_inodes_count),
                                     offsetof(ext4_group_desc, bg_free_inodes_count_hi)};
  static constexpr Field kDirectories{offsetof(ext4_group_desc, bg_used_dirs_count),
                                      offsetof(ext4_group_desc, bg_used_dirs_count_hi)};
  static constexpr Field kUnusedInodes{offsetof(ext4_group_desc, bg_itable_unused),
                                       offsetof(ext4_group_desc, bg_itable_unused_hi)};
  static constexpr Field kInodeBitmapSum{offsetof(ext4_group_desc, bg_inode_bitmap_csum_lo),
                                         offsetof(ext4_group_desc, bg_inode_bitmap_csum_hi)};
  static constexpr Field kBlockBitmapSum{offsetof(ext4_group_desc, bg_block_bitmap_csum_lo),
                                         offsetof(ext4_group_desc, bg_block_bitmap_csum_hi)};

  [[nodiscard]] std::byte* at(GroupNumber group) const {
    return reinterpret_cast<std::byte*>(fs_.group_desc) + group * size_;
  }
  // The library's array is nobody else's while groups change, but figures are read without their locks.
  [[nodiscard]] std::atomic_ref<std::uint16_t> half(GroupNumber group, std::size_t offset) const {
    return std::atomic_ref(*reinterpret_cast<std::uint16_t*>(at(group) + offset));
  }
  [[nodiscard]] std::uint32_t get(GroupNumber group, Field field) const {
    const std::uint32_t low = half(group, field.low).load(std::memory_order_relaxed);
    if (!is_long_) return low;
    return low | std::uint32_t{half(group, field.high).load(std::memory_order_relaxed)} << 16;
  }
  void set(GroupNumber group, Field field, std::uint32_t value);
  void set_directories(GroupNumber group, std::uint32_t value);
  [[nodiscard]] std::uint64_t place(GroupNumber group, std::size_t low, std::size_t high) const {
    const auto part = [&](std::size_t offset) {
      std::uint32_t value = 0;
      std::memcpy(&value, at(group) + offset, sizeof value);
      return std::uint64_t{value};
    };
    return is_long_ ? part(low) | part(high) << 32 : part(low);
  }
  [[nodiscard]] bool is_sum(GroupNumber group, Field field, std::uint32_t sum) const;
  [[nodiscard]] bool has_flag(GroupNumber group, std::uint16_t flag) const {
    constexpr std::size_t kFlags = offsetof(ext4_group_desc, bg_flags);
    return has_checksums_ && (half(group, kFlags).load(std::memory_order_acquire) & flag) != 0;
  }
  void clear_flag(GroupNumber group, std::uint16_t flag);

  // In cache lines of their own.
  struct alignas(64) Stripe {
    Mutex mutex;
  };

  struct_ext2_filsys& fs_;
  const std::size_t size_;    // of a descriptor, in bytes
  const bool is_long_;        // it has the high halves
  const bool has_checksums_;  // of descriptors
  std::array<Stripe, kStripes> stripes_;
  std::atomic<std::uint64_t> free_inodes_, free_clusters_, directories_{0};
  std::set<GroupNumber> changed_;
};

}  // namespace fuse4fs::ext4
