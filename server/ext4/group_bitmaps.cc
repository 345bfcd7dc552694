// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/group_bitmaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <tuple>

#include "server/ext4/bitmap_bits.h"
#include "server/ext4/crc32c.h"
#include "server/ext4/credits.h"
#include "server/ext4/errors.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr cache::BlockRole kRole{.kind = cache::BlockKind::kBitmap, .owner = 0};
constexpr std::uint32_t kBitsPerByte = 8;
// As many groups as mke2fs puts together.
constexpr GroupNumber kMostAhead = 16;

}  // namespace

GroupBitmaps::GroupBitmaps(Volume& volume, GroupDescriptors& groups, Kind kind, std::uint32_t bits)
    : volume_(volume),
      groups_(groups),
      kind_(kind),
      bits_(bits),
      has_checksums_(volume.has_checksums()),
      changed_(groups.count()),
      damaged_(groups.count()),
      doubted_(groups.count())
#ifndef NDEBUG
      ,
      was_right_(groups.count())
#endif
{
}

#ifndef NDEBUG
bool GroupBitmaps::has_right_figure(GroupNumber group, std::span<const std::byte> bytes) const {
  const std::uint32_t free =
      kind_ == Kind::kInodes ? groups_.free_inodes(group) : groups_.free_clusters(group);
  return bits::count_zeros(bytes, 0, bits_) == free;
}

void GroupBitmaps::recount(GroupNumber group, std::span<const std::byte> bytes) const {
  if (!was_right_[group] || has_right_figure(group, bytes)) return;
  fmt::print(stderr, "{} and the figure of its group differ, and did not before\n", name_of(group));
  std::abort();
}
#endif

std::uint64_t GroupBitmaps::block_of(GroupNumber group) const {
  return kind_ == Kind::kInodes ? groups_.inode_bitmap(group) : groups_.block_bitmap(group);
}

bool GroupBitmaps::is_unwritten(GroupNumber group) const {
  return kind_ == Kind::kInodes ? groups_.has_no_inodes(group) : groups_.has_no_blocks(group);
}

std::string GroupBitmaps::name_of(GroupNumber group) const {
  return fmt::format("the {} bitmap of group {}", kind_ == Kind::kInodes ? "inode" : "block", group);
}

std::uint32_t GroupBitmaps::sum_of(std::span<const std::byte> bytes) const {
  return crc32c(volume_.checksum_seed(), bytes.data(), bits_ / kBitsPerByte);
}

bool GroupBitmaps::is_right(GroupNumber group, std::span<const std::byte> bytes) const {
  if (!has_checksums_) return true;
  const std::uint32_t sum = sum_of(bytes);
  return kind_ == Kind::kInodes ? groups_.is_inode_bitmap_sum(group, sum)
                                : groups_.is_block_bitmap_sum(group, sum);
}

Result<cache::Buffer> GroupBitmaps::get(GroupNumber group) {
  if (is_damaged(group)) return fail(kCorrupted);
  std::string_view wrong;
  const auto judge = [&](std::span<const std::byte> bytes) -> Result<void> {
    // One that was changed here may have been written early: its sum comes with the write-back.
    if (!changed_[group].load(std::memory_order_relaxed) && !is_right(group, bytes))
      wrong = "has a wrong checksum";
    else if (judge_ && !judge_(group, bytes))
      wrong = "calls the volume's own blocks free";
    if (wrong.empty()) return {};
    if (trust_ == Trust::kVerified) return fail(kCorrupted);
    const bool doubted = trust_ == Trust::kDoubted;
    if (doubted) doubted_[group].store(true, std::memory_order_relaxed);
    if (!told_.exchange(true))
      volume_.tell(fmt::format("{} {}; it is {}; run: e2fsck DEVICE", name_of(group), wrong,
                               doubted ? "not heeded" : "believed"));
    return {};
  };
  auto buffer = volume_.cache().get(block_of(group), kRole, judge);
  if (buffer) return buffer;
  if (buffer.error() == kCorrupted) return fail(corrupted(group, wrong));
  return fail(volume_.failed(buffer.error().value(), 0, "reading " + name_of(group)));
}

void GroupBitmaps::read_ahead(GroupNumber group, const Wanted& wanted) {
  const std::uint64_t first = block_of(group);
  if (is_unwritten(group) || is_damaged(group) || volume_.cache().has(first)) return;
  const GroupNumber most = std::min(kMostAhead, groups_.count() - group);
  // Over what is not wanted, to what is.
  GroupNumber count = 1;
  for (GroupNumber i = 1; i < most && block_of(group + i) == first + i && !is_unwritten(group + i); ++i) {
    if (wanted(group + i)) count = i + 1;
  }
  // One by itself is read when it is wanted.
  if (count > 1) volume_.cache().read_ahead(first, count);
}

Result<cache::Buffer*> GroupBitmaps::hold(GroupNumber group) {
  if (is_damaged(group)) return fail(kCorrupted);
  auto& kept = kept_[GroupDescriptors::stripe_of(group)];
  if (kept.group != group) {
    ASSIGN_OR_RETURN(auto buffer, get(group));
    kept = {.group = group, .buffer = std::move(buffer)};
  }
  return &kept.buffer;
}

Result<cache::Buffer*> GroupBitmaps::hold_new(GroupNumber group, std::size_t bits) {
  auto& journal = volume_.journal();
  std::ignore = journal.ensure(credits::of_bitmap);
  auto buffer = journal.get_new(block_of(group), kRole);
  if (!buffer) return fail(volume_.failed(buffer.error().value(), 0, "writing " + name_of(group)));
  {
    ASSIGN_OR_RETURN(const auto change, this->change(group, *buffer));
    bits::set(change.bytes(), bits, change.bytes().size() * kBitsPerByte);
  }
  auto& kept = kept_[GroupDescriptors::stripe_of(group)];
  kept = {.group = group, .buffer = *std::move(buffer)};
  return &kept.buffer;
}

// A run may lie in any number of groups where they are small (mke2fs -g): what the handle lacks for them it
// gets here.
Result<cache::Change> GroupBitmaps::change(GroupNumber group, cache::Buffer& buffer) {
  auto& journal = volume_.journal();
  std::ignore = journal.ensure(credits::of_bitmap);
#ifndef NDEBUG
  if (!changed_[group]) was_right_[group] = has_right_figure(group, buffer.bytes());
#endif
  auto change = journal.modify(buffer);
  if (!change) return change;
  changed_[group].store(true, std::memory_order_relaxed);
  any_changed_.store(true, std::memory_order_relaxed);
  return change;
}

Errno GroupBitmaps::corrupted(GroupNumber group, std::string_view words, InodeNumber inode,
                              std::uint64_t block) {
  if (damaged_[group].exchange(true)) return kCorrupted;
  return volume_.corrupted(inode, block, fmt::format("{} {}", name_of(group), words));
}

Result<bool> GroupBitmaps::are_sound() {
  for (GroupNumber group = 0; group < groups_.count(); ++group) {
    if (is_unwritten(group)) continue;
    read_ahead(group);
    const auto buffer = volume_.cache().get(block_of(group));
    if (!buffer) return fail(volume_.failed(buffer.error().value(), 0, "reading " + name_of(group)));
    if (!is_right(group, buffer->bytes())) return false;
  }
  return true;
}

void GroupBitmaps::change_all() {
  for (GroupNumber group = 0; group < groups_.count(); ++group) changed_[group] = !is_unwritten(group);
  any_changed_ = true;
}

Result<void> GroupBitmaps::seal() {
  if (!any_changed_) return {};
  for (GroupNumber group = 0; group < groups_.count(); ++group) {
    if (!changed_[group].load(std::memory_order_relaxed)) continue;
    const auto lock = groups_.lock(group);
    // Let go of, so that the cache can let go of what it held while it was written.
    kept_[GroupDescriptors::stripe_of(group)] = {};
    const auto buffer = volume_.cache().get(block_of(group));
    if (!buffer) return fail(volume_.failed(buffer.error().value(), 0, "reading " + name_of(group)));
#ifndef NDEBUG
    recount(group, buffer->bytes());
#endif
    if (has_checksums_) {
      const std::uint32_t sum = sum_of(buffer->bytes());
      kind_ == Kind::kInodes ? groups_.set_inode_bitmap_sum(group, sum)
                             : groups_.set_block_bitmap_sum(group, sum);
    }
    changed_[group] = false;
    groups_.note_changed(group);
  }
  any_changed_ = false;
  return {};
}

}  // namespace fuse4fs::ext4
