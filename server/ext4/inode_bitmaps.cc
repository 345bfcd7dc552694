// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_bitmaps.h"

#include <algorithm>

#include "server/ext4/bitmap_bits.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

InodeBitmaps::InodeBitmaps(Volume& volume, GroupDescriptors& groups)
    : volume_(volume),
      groups_(groups),
      per_group_(volume.super().s_inodes_per_group),
      first_(EXT2_FIRST_INODE(&volume.super())),
      blocks_(volume, groups, GroupBitmaps::Kind::kInodes, per_group_),
      first_free_(groups.count()),
      cleared_blocks_(groups.count()) {}

bool InodeBitmaps::in_use(InodeNumber number) {
  if (number == 0 || group_of(number) >= groups_.count()) return false;
  const GroupNumber group = group_of(number);
  if (groups_.has_no_inodes(group)) return false;
  const auto is_set = [&](const cache::Buffer& buffer) {
    return bits::test(buffer.bytes(), index_of(number));
  };
  // Who only looks waits for nobody who looks, so he leaves what is at hand as it is.
  const auto lock = groups_.lock_shared(group);
  if (const auto* const buffer = blocks_.at_hand(group); buffer != nullptr) return is_set(*buffer);
  const auto buffer = blocks_.get(group);
  return !buffer || blocks_.is_doubted(group) || is_set(*buffer);
}

Result<cache::Buffer*> InodeBitmaps::open(GroupNumber group) {
  if (!groups_.has_no_inodes(group)) return blocks_.hold(group);
  ASSIGN_OR_RETURN(auto* const buffer, blocks_.hold_new(group, per_group_));
  // As the kernel, that of its blocks with it.
  RETURN_IF_ERROR(volume_.block_bitmaps().begin(group));
  groups_.begin_inodes(group);
  return buffer;
}

Result<void> InodeBitmaps::begin_table_block(GroupNumber group, const cache::Buffer& bitmap,
                                             std::uint32_t index) {
  const std::uint32_t in_a_block = EXT2_INODES_PER_BLOCK(&volume_.super());
  if (index / in_a_block < groups_.used_table_blocks(group)) return {};
  // A damaged descriptor may say too little.
  const std::uint32_t first = index / in_a_block * in_a_block;
  const std::uint32_t end = std::min(first + in_a_block, per_group_);
  if (bits::first_one(bitmap.bytes(), first, end) < end) return {};
  RETURN_IF_ERROR(clear_table_from(group, index / in_a_block));
  return volume_.begin_table_block(number_of(group, index));
}

// A descriptor that says how far a table is used may be on the medium before its inodes are: until then what
// lies there are zeros.
Result<void> InodeBitmaps::clear_table_from(GroupNumber group, std::uint32_t block) {
  auto& cleared = cleared_blocks_[group];
  if (!groups_.has_stale_table(group) || block < cleared) return {};
  const std::uint32_t count =
      std::min<std::uint32_t>(kClearedAtOnce, volume_.fs()->inode_blocks_per_group - block);
  RETURN_IF_ERROR(volume_.clear_blocks(groups_.inode_table(group) + block, count));
  cleared = block + count;
  return {};
}

Result<void> InodeBitmaps::mark_taken(GroupNumber group, cache::Buffer& buffer, std::uint32_t index,
                                      What what) {
  RETURN_IF_ERROR(begin_table_block(group, buffer, index));
  ASSIGN_OR_RETURN(const auto change, blocks_.change(group, buffer));
  bits::set(change.bytes(), index, index + 1);
  groups_.note_inode_taken(group, index, what);
  return {};
}

Result<InodeNumber> InodeBitmaps::take_lowest(GroupNumber group, What what) {
  const auto lock = groups_.lock(group);
  ASSIGN_OR_RETURN(auto* const buffer, open(group));
  auto& begin = first_free_[group];
  begin = static_cast<std::uint32_t>(bits::first_zero(buffer->bytes(), begin, per_group_));
  std::uint64_t index = begin;
  if (number_of(group, 0) < first_) index = std::max<std::uint64_t>(index, first_ - number_of(group, 0));
  while (true) {
    index = bits::first_zero(buffer->bytes(), index, per_group_);
    if (index >= per_group_) return 0;
    const InodeNumber number = number_of(group, static_cast<std::uint32_t>(index));
    // Numbers that wait for their release lie in runs.
    const InodeNumber free = volume_.order().unreleased().first_free_inode(number);
    if (free == number) break;
    index += free - number;
  }
  // What lies behind was never written.
  if (index < per_group_ - groups_.unused_inodes(group) &&
      volume_.has_live_inode(number_of(group, static_cast<std::uint32_t>(index))))
    return fail(blocks_.corrupted(group, "calls an inode free that is in use",
                                  number_of(group, static_cast<std::uint32_t>(index)), 0));
  RETURN_IF_ERROR(mark_taken(group, *buffer, static_cast<std::uint32_t>(index), what));
  return number_of(group, static_cast<std::uint32_t>(index));
}

Result<void> InodeBitmaps::take(InodeNumber number, What what) {
  const GroupNumber group = group_of(number);
  const auto lock = groups_.lock(group);
  ASSIGN_OR_RETURN(auto* const buffer, open(group));
  if (bits::test(buffer->bytes(), index_of(number)))
    return fail(volume_.corrupted(number, 0, "an inode that was to be free is in use"));
  return mark_taken(group, *buffer, index_of(number), what);
}

Result<void> InodeBitmaps::give_back(InodeNumber number, What what) {
  const GroupNumber group = group_of(number);
  const auto lock = groups_.lock(group);
  if (groups_.has_no_inodes(group))
    return fail(volume_.corrupted(number, 0, "an inode that was freed was free"));
  ASSIGN_OR_RETURN(auto* const buffer, blocks_.hold(group));
  const std::uint32_t index = index_of(number);
  if (!bits::test(buffer->bytes(), index))
    return fail(volume_.corrupted(number, 0, "an inode that was freed was free"));
  ASSIGN_OR_RETURN(const auto change, blocks_.change(group, *buffer));
  // Before anybody can find it.
  volume_.note_inode_freed(number);
  bits::clear(change.bytes(), index, index + 1);
  groups_.note_inode_freed(group, what);
  first_free_[group] = std::min(first_free_[group], index);
  return {};
}

Result<InodeNumber> InodeBitmaps::next_in_use(InodeNumber from) {
  if (from == 0) from = 1;
  for (GroupNumber group = group_of(from); group < groups_.count(); ++group) {
    if (groups_.has_no_inodes(group)) continue;
    const std::uint32_t begin = group == group_of(from) ? index_of(from) : 0;
    if (begin == 0) blocks_.read_ahead(group);
    ASSIGN_OR_RETURN(const auto buffer, blocks_.get(group));
    const auto index = bits::first_one(buffer.bytes(), begin, per_group_);
    if (index < per_group_) return number_of(group, static_cast<std::uint32_t>(index));
  }
  return 0;
}

Result<bool> InodeBitmaps::uses_unused(GroupNumber group) {
  const auto lock = groups_.lock_shared(group);
  if (groups_.has_no_inodes(group)) return false;
  ASSIGN_OR_RETURN(const auto buffer, blocks_.get(group));
  const std::uint64_t used =
      std::uint64_t{groups_.used_table_blocks(group)} * EXT2_INODES_PER_BLOCK(&volume_.super());
  return bits::first_one(buffer.bytes(), std::min<std::uint64_t>(used, per_group_), per_group_) < per_group_;
}

Result<std::uint32_t> InodeBitmaps::count_free(GroupNumber group) {
  if (groups_.has_no_inodes(group)) return per_group_;
  ASSIGN_OR_RETURN(const auto buffer, blocks_.get(group));
  return static_cast<std::uint32_t>(bits::count_zeros(buffer.bytes(), 0, per_group_));
}

}  // namespace fuse4fs::ext4
