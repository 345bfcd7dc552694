// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/volume.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstring>
#include <ctime>
#include <new>
#include <span>
#include <tuple>

#include "server/ext4/credits.h"
#include "server/ext4/errors.h"
#include "server/ext4/ext2_io.h"
#include "server/ext4/journal_map.h"
#include "server/ext4/summary.h"

namespace fuse4fs::ext4 {
namespace {

// libext2fs reports some things to standard error through this; all that matters comes back as a code as
// well.
void stay_silent(const char*, errcode_t, const char*, va_list) {}

// Nothing may be thrown through libext2fs.
template <class Call>
errcode_t caught(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return EXT2_ET_NO_MEMORY;
  }
}

ErrorPolicy policy_of(const ext2_super_block& super) {
  switch (super.s_errors) {
    case EXT2_ERRORS_RO:
      return ErrorPolicy::kRemountReadOnly;
    case EXT2_ERRORS_PANIC:
      // A user's process cannot stop the machine: it stops what it can.
      return ErrorPolicy::kShutDown;
    default:
      return ErrorPolicy::kContinue;
  }
}

// Sorted and apart, whatever they have in common.
void join(std::vector<BlockRange>& ranges) {
  std::ranges::sort(ranges);
  std::vector<BlockRange> joined;
  for (const auto& range : ranges) {
    if (joined.empty() || joined.back().second < range.first)
      joined.push_back(range);
    else
      joined.back().second = std::max(joined.back().second, range.second);
  }
  ranges = std::move(joined);
}

}  // namespace

Volume::Volume(cache::BlockDevice device, const MountOptions& options, Events& events,
               std::uint32_t block_size)
    : device_(std::move(device)),
      events_(events),
      block_size_(block_size),
      block_bits_(static_cast<unsigned>(std::countr_zero(block_size))),
      has_acls_(options.acls == MountOptions::Acls::kServe),
      cache_(device_, block_size,
             {.limit = options.cache_memory, .early = cache::BufferCache::Options::Early::kFresh}),
      external_journal_(options.external_journal) {
  if (options.access == cache::Access::kReadOnly) health_ = Health::kReadOnly;
}

Volume::~Volume() {
  // Without its flush: what is to be written was written by write_back().
  if (fs_ != nullptr) ext2fs_free(fs_);
}

Outcome<void> Volume::claim(const MultiMountPlace& place, const MountOptions& options) {
  ASSIGN_OR_RETURN(protection_, MultiMountProtection::take(device_, place, options, events_));
  const auto block = place.offset >> block_bits_;
  own_structures_.emplace_back(block, block + 1);
  return {};
}

void Volume::keep_claim() {
  if (protection_) protection_->keep([this](std::string_view why) { claim_lost(why); });
}

Result<void> Volume::check_claim() {
  if (protection_) {
    if (const auto why = protection_->beat()) claim_lost(*why);
  }
  if (device_.access() != cache::Access::kReadWrite) return fail(EROFS);
  return {};
}

void Volume::claim_lost(std::string_view why) {
  // First of all, for all threads, whatever they are about to do.
  device_.forbid_writes();
  lost_writes_ = true;
  auto good = Health::kGood;
  health_.compare_exchange_strong(good, Health::kReadOnly);
  events_.notice(Notice::kReadOnly,
                 fmt::format("{}: read-only from now on, and nothing is written any more; what was not yet "
                             "written is lost",
                             why));
}

void Volume::close() {
  if (protection_) {
    protection_->give_back();
    // Should the power fail now, the next mount need not wait.
    (void)device_.flush();
  }
  device_.close();
  external_journal_.reset();
}

Outcome<void> Volume::start(const MountOptions& options, Handle handle, const JournalMap* journal) {
  initialize_ext2_error_table();
  set_com_err_hook(stay_silent);
  const bool writing = handle != Handle::kReads;
  {
    const Ext2Io io(cache_);
    // FORCE: the features were judged. SKIP_MMP: libext2fs would open the device by its name.
    const int flags = EXT2_FLAG_64BITS | EXT2_FLAG_SKIP_MMP | EXT2_FLAG_FORCE | EXT2_FLAG_MASTER_SB_ONLY |
                      (writing ? EXT2_FLAG_RW : 0);
    if (const errcode_t code = ext2fs_open("volume", flags, 0, 0, Ext2Io::manager(), &fs_); code != 0) {
      fs_ = nullptr;
      if (code == EXT2_ET_SB_CSUM_INVALID)
        return fail(kCorrupted, "the superblock's checksum is wrong; try: e2fsck DEVICE");
      return fail(from_ext2(code), fmt::format("the superblock or the group descriptors cannot be used ({}); "
                                               "try: e2fsck DEVICE",
                                               error_message(code)));
    }
  }
  blocks_ = ext2fs_blocks_count(fs_->super);
  cluster_blocks_ = 1U << fs_->cluster_ratio_bits;
  policy_ = options.errors.value_or(policy_of(*fs_->super));
  const auto* const name = reinterpret_cast<const char*>(fs_->super->s_volume_name);
  label_.assign(name, strnlen(name, sizeof fs_->super->s_volume_name));
  RETURN_IF_ERROR(map_own_structures(journal));
  count_free(*fs_);
  overhead_ = overhead_clusters(*fs_) * cluster_blocks_;
  groups_.emplace(*fs_);
  inode_blocks_.emplace(*fs_, *groups_, cache_, journal_);
  inode_bitmaps_.emplace(*this, *groups_);
  block_bitmaps_.emplace(*this, *groups_);
  freed_groups_.emplace(fs_->group_desc_count);
  RETURN_IF_ERROR(judge_bitmaps(handle));
  fs_->priv_data = this;
  records_errors_ = writing;
  // It keeps no copy of what it gets here. It asks for the short inode, where it goes through a map.
  fs_->read_inode = [](ext2_filsys fs, ext2_ino_t number, ext2_inode* inode) {
    return caught(
        [&] { return of(fs).inode_blocks_->read(number, std::as_writable_bytes(std::span(inode, 1))); });
  };
  return {};
}

// They are read when they are wanted; all of them only where they may be wrong without damage.
Outcome<void> Volume::judge_bitmaps(Handle handle) {
  if (handle == Handle::kReplays) {
    for (auto* const bitmaps : {&block_bitmaps_->blocks(), &inode_bitmaps_->blocks()}) {
      const auto sound = bitmaps->are_sound();
      if (!sound)
        return fail(sound.error(),
                    fmt::format("the allocation bitmaps cannot be used ({}); run: e2fsck DEVICE",
                                sound.error().message()));
      if (!*sound) bitmaps_alone_ = true;
    }
  }
  // To read, they are hardly needed. And a replay that was cut short may have written them without the
  // descriptors: as the kernel, which does not look at their checksums then.
  if (handle == Handle::kReads) set_trust(GroupBitmaps::Trust::kDoubted);
  if (bitmaps_alone_) set_trust(GroupBitmaps::Trust::kBelieved);
  if (bitmaps_alone_)
    events_.notice(
        "a bitmap has a wrong checksum, maybe because a recovery was cut short; it is believed, run: e2fsck "
        "DEVICE");
  return {};
}

void Volume::set_trust(GroupBitmaps::Trust trust) {
  inode_bitmaps_->blocks().set_trust(trust);
  block_bitmaps_->blocks().set_trust(trust);
}

Outcome<void> Volume::map_own_structures(const JournalMap* journal) {
  auto& zones = own_structures_;
  // A journal that has a name, as old tools made them, is a file as well.
  if (journal != nullptr && fs_->super->s_journal_inum < EXT2_FIRST_INODE(fs_->super)) {
    auto ranges = journal->ranges();
    // The log may have brought what makes its inode usable: then the next mount goes by that.
    if (!journal->fallback().empty()) {
      if (const auto now = JournalMap::read(device_, *fs_->super))
        ranges.insert(ranges.end(), now->ranges().begin(), now->ranges().end());
    }
    join(ranges);
    zones.insert(zones.end(), ranges.begin(), ranges.end());
  }
  const auto& super = *fs_->super;
  const auto inside = [&](std::uint64_t first, std::uint64_t count) {
    return first >= super.s_first_data_block && first < blocks_ && count <= blocks_ - first;
  };
  for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
    if (!ext2fs_group_desc_csum_verify(fs_, group))
      return fail(kCorrupted,
                  fmt::format("the checksum of group descriptor {} is wrong; run: e2fsck DEVICE", group));
    blk64_t superblock = 0;
    blk64_t old_descriptors = 0;
    blk64_t new_descriptors = 0;
    ext2fs_super_and_bgd_loc2(fs_, group, &superblock, &old_descriptors, &new_descriptors, nullptr);
    if (superblock != 0 || group == 0) zones.emplace_back(superblock, superblock + 1);
    if (old_descriptors != 0) {
      const auto count = ext2fs_has_feature_meta_bg(fs_->super)
                             ? std::min<std::uint64_t>(super.s_first_meta_bg, fs_->desc_blocks)
                             : fs_->desc_blocks + super.s_reserved_gdt_blocks;
      if (count != 0) zones.emplace_back(old_descriptors, old_descriptors + count);
    }
    if (new_descriptors != 0) zones.emplace_back(new_descriptors, new_descriptors + 1);
    const std::uint64_t block_bitmap = ext2fs_block_bitmap_loc(fs_, group);
    const std::uint64_t inode_bitmap = ext2fs_inode_bitmap_loc(fs_, group);
    const std::uint64_t table = ext2fs_inode_table_loc(fs_, group);
    if (!inside(block_bitmap, 1) || !inside(inode_bitmap, 1) || !inside(table, fs_->inode_blocks_per_group))
      return fail(
          kCorrupted,
          fmt::format("group {} has its bitmaps or inodes outside of the volume; run: e2fsck DEVICE", group));
    zones.emplace_back(block_bitmap, block_bitmap + 1);
    zones.emplace_back(inode_bitmap, inode_bitmap + 1);
    zones.emplace_back(table, table + fs_->inode_blocks_per_group);
    inode_tables_.push_back(table);
  }
  std::sort(inode_tables_.begin(), inode_tables_.end());
  std::sort(zones.begin(), zones.end());
  std::size_t kept = 0;
  for (std::size_t i = 1; i < zones.size(); ++i) {
    if (zones[i].first < zones[kept].second)
      return fail(kCorrupted,
                  fmt::format("block {} belongs to two of the volume's own structures; run: e2fsck DEVICE",
                              zones[i].first));
    if (zones[i].first == zones[kept].second)
      zones[kept].second = zones[i].second;
    else
      zones[++kept] = zones[i];
  }
  zones.resize(kept + 1);
  return {};
}

Outcome<void> Volume::mark_in_use() {
  {
    const auto handle = journal_.start(credits::of_superblock);
    auto& super = *fs_->super;
    was_clean_ = (super.s_state & EXT2_VALID_FS) != 0;
    super.s_state &= static_cast<__u16>(~EXT2_VALID_FS);
    ++super.s_mnt_count;
    const auto now = std::time(nullptr);
    super.s_mtime = static_cast<__u32>(now);
    super.s_mtime_hi = static_cast<__u8>(now >> 32);
    ext2fs_mark_super_dirty(fs_);
  }
  auto written = write_back();
  if (written) written = flush_device();
  if (!written)
    return fail(written.error(), fmt::format("cannot write the superblock: {}", written.error().message()));
  return {};
}

cache::Access Volume::access() const {
  return health_ == Health::kGood ? cache::Access::kReadWrite : cache::Access::kReadOnly;
}

Result<void> Volume::check_alive() const {
  if (health_ == Health::kShutDown) return fail(EIO);
  return {};
}

Result<void> Volume::check_writable() const {
  if (health_ == Health::kShutDown) return fail(EIO);
  if (health_ == Health::kReadOnly) return fail(EROFS);
  return {};
}

Errno Volume::corrupted(InodeNumber inode, std::uint64_t block, std::string_view words) {
  std::string line(words);
  if (inode != 0) line += fmt::format(", inode {}", inode);
  if (block != 0) line += fmt::format(", block {}", block);
  record_error(inode, block, EUCLEAN);
  events_.corruption(line, {.inode = inode, .block = block, .error = EUCLEAN});
  apply_policy();
  return kCorrupted;
}

Errno Volume::failed(errcode_t code, InodeNumber inode, std::string_view doing) {
  const Errno error = from_ext2(code);
  if (is_corruption(code)) return corrupted(inode, 0, fmt::format("{}: {}", doing, error_message(code)));
  if (error == Errno(EIO)) {
    const std::uint64_t block = cache::BufferCache::take_unreadable();
    auto words = fmt::format("{}: {}, inode {}", doing, error_message(code), inode);
    if (block != 0) words += fmt::format(", block {}", block);
    record_error(inode, block, EIO);
    events_.device_error(words, {.inode = inode, .block = block, .error = EIO});
    apply_policy();
  }
  return error;
}

Result<void> Volume::check(errcode_t code, InodeNumber inode, std::string_view doing) {
  if (code == 0) return {};
  return fail(failed(code, inode, doing));
}

void Volume::uncount_blocks(Inode& inode, std::uint64_t clusters) {
  const auto blocks = static_cast<std::int64_t>(clusters * cluster_blocks_);
  if (inode.add_blocks(super(), block_size_, -blocks)) return;
  std::ignore = corrupted(inode.number, 0, "more blocks were freed than it had counted");
  inode.raw.i_blocks = 0;
  inode.raw.osd2.linux2.l_i_blocks_hi = 0;
}

Result<void> Volume::count_blocks(Inode& inode, std::uint64_t clusters) const {
  const auto blocks = static_cast<std::int64_t>(clusters * cluster_blocks_);
  if (!inode.add_blocks(super(), block_size_, blocks)) return fail(EFBIG);
  return {};
}

Result<void> Volume::read_inode(InodeNumber number, std::span<std::byte> into, std::string_view doing) {
  return check(inode_blocks_->read(number, into), number, doing);
}

bool Volume::has_live_inode(InodeNumber number) {
  ext2_inode inode;
  return inode_blocks_->read(number, std::as_writable_bytes(std::span(&inode, 1))) == 0 &&
         inode.i_links_count != 0 && inode.i_mode != 0 && inode.i_dtime == 0;
}

Result<void> Volume::write_inode(InodeNumber number, std::span<const std::byte> from,
                                 std::string_view doing) {
  return check(inode_blocks_->write(number, from, InodeBlocks::Rest::kKept), number, doing);
}

Result<void> Volume::write_inode(const Inode& inode) {
  note_flags(inode.raw.i_flags);
  return write_inode(inode.number, inode.bytes());
}

Result<void> Volume::begin_table_block(InodeNumber number) {
  return check(inode_blocks_->begin(number), number, "beginning a block of the inode table");
}

Result<void> Volume::write_new_inode(const Inode& inode) {
  note_flags(inode.raw.i_flags);
  return check(inode_blocks_->write(inode.number, inode.bytes(), InodeBlocks::Rest::kZeros), inode.number,
               "writing an inode");
}

void Volume::note_xattrs() {
  // Others test other bits of the word, without the lock: those do not change.
  std::atomic_ref word(fs_->super->s_feature_compat);
  if ((word.load(std::memory_order_relaxed) & EXT2_FEATURE_COMPAT_EXT_ATTR) != 0) return;
  const std::lock_guard lock(superblock_);
  word.fetch_or(EXT2_FEATURE_COMPAT_EXT_ATTR, std::memory_order_relaxed);
  ext2fs_mark_super_dirty(fs_);
}

void Volume::record_error(InodeNumber inode, std::uint64_t block, int error) {
  if (!records_errors_) return;
  auto errors = errors_.lock();
  errors->add({.error = error, .inode = inode, .block = block});
  errors_wait_ = true;
}

void Volume::apply_policy() {
  if (policy_ == ErrorPolicy::kContinue) return;
  if (policy_ == ErrorPolicy::kShutDown) {
    if (health_.exchange(Health::kShutDown) == Health::kShutDown) return;
    if (cache_.dirty_blocks() != 0) lost_writes_ = true;
    write_errors_alone();
    events_.notice(Notice::kShutDown, "shut down after an error: everything answers EIO from now on");
    return;
  }
  auto good = Health::kGood;
  if (health_.compare_exchange_strong(good, Health::kReadOnly))
    events_.notice(Notice::kReadOnly, "turned read-only after an error");
}

// What there is besides in memory may be half of a change, and whoever met the error may hold any lock. So
// nothing but these fields, into the superblock as it lies there. A write-back that is just under way may
// write over them; the volume is not clean then either.
void Volume::write_errors_alone() {
  if (device_.access() != cache::Access::kReadWrite) return;
  std::array<std::byte, kSuperblockSize> raw;
  if (!device_.read(kSuperblockOffset, raw) || !check_superblock_checksum(raw)) return;
  ext2_super_block super;
  static_assert(sizeof super == kSuperblockSize);
  std::memcpy(&super, raw.data(), sizeof super);
  errors_.lock()->note_in(super);
  if (has_checksums()) super.s_checksum = superblock_checksum(super);
  std::ignore = device_.write(kSuperblockOffset, std::as_bytes(std::span(&super, 1)));
}

std::uint64_t Volume::goal_of(InodeNumber number, Contents contents) const {
  // As many as the kernel wants (EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME).
  constexpr std::uint64_t kLeastFlexSize = 4;
  std::uint64_t group = inode_bitmaps_->group_of(number);
  if (const auto flex = flex_size(); flex >= kLeastFlexSize) {
    group -= group % flex;
    if (contents == Contents::kData && group + 1 < groups_->count()) ++group;
  }
  return block_bitmaps_->blocks_of(static_cast<GroupNumber>(group)).first;
}

void Volume::note_freed(GroupNumber group, BlockRun run) {
  if (serves_) order_.unreleased().add_blocks(run.first, run.count);
  freed_groups_->note_freed(group);
}

bool Volume::is_inode_table(std::uint64_t block) const {
  const auto behind = std::upper_bound(inode_tables_.begin(), inode_tables_.end(), block);
  return behind != inode_tables_.begin() && block - *std::prev(behind) < fs_->inode_blocks_per_group;
}

Result<void> Volume::keep_earlier(InodeNumber number, EarlierInode::Keeps what) {
  EarlierInode image;
  RETURN_IF_ERROR(check(inode_blocks_->copy(number, image), number, "reading an inode"));
  image.keeps = what;
  order_.note_earlier(number, std::move(image));
  return {};
}

bool Volume::may_be_owned(std::uint64_t first, std::uint64_t count) const {
  if (first <= super().s_first_data_block || first >= blocks_ || count > blocks_ - first) return false;
  const auto behind = std::upper_bound(own_structures_.begin(), own_structures_.end(),
                                       std::pair(first + count - 1, UINT64_MAX));
  return behind == own_structures_.begin() || std::prev(behind)->second <= first;
}

}  // namespace fuse4fs::ext4
