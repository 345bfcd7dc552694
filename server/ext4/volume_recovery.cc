// SPDX-License-Identifier: GPL-2.0-or-later
// Volume: from a device that may hold a dirty journal to a volume that is ready to serve. The order is in
// journal_recovery.h.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <unordered_set>
#include <vector>

#include "server/ext4/errors.h"
#include "server/ext4/fast_commit_log.h"
#include "server/ext4/fast_commit_replay.h"
#include "server/ext4/journal_recovery.h"
#include "server/ext4/metadata.h"
#include "server/ext4/orphans.h"
#include "server/ext4/summary.h"
#include "server/ext4/superblock_check.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

Outcome<JournalRecovery::RawSuperblock> read_superblock(const cache::BlockDevice& device) {
  JournalRecovery::RawSuperblock raw;
  if (const auto read = device.read(kSuperblockOffset, raw); !read)
    return fail(read.error(), fmt::format("cannot read the superblock: {}", read.error().message()));
  return raw;
}

Outcome<FastCommitLog> read_fast_commits(JournalRecovery& recovery,
                                         const JournalRecovery::RawSuperblock& raw) {
  const auto& super = *reinterpret_cast<const ext2_super_block*>(raw.data());
  FastCommitScan scan({.block_size = 1024U << super.s_log_block_size,
                       .inode_size = static_cast<std::uint32_t>(EXT2_INODE_SIZE(&super)),
                       .tid = recovery.fast_commits().sequence});
  RETURN_IF_ERROR(recovery.read_fast_commits([&](std::span<const std::byte> block) -> Outcome<bool> {
    ASSIGN_OR_RETURN(const auto next, scan.add(block));
    return next == FastCommitScan::Next::kEnough;
  }));
  return scan.take();
}

}  // namespace

Outcome<std::unique_ptr<Volume>> Volume::open(cache::BlockDevice device, const MountOptions& asked,
                                              Events& events) {
  MountOptions options = asked;
  if (device.size() < kSuperblockOffset + kSuperblockSize)
    return fail(Errno(EINVAL), "the device is too small for a volume");
  if (options.access == cache::Access::kReadWrite && device.access() != cache::Access::kReadWrite)
    return fail(Errno(EROFS), "the device can only be read; mount with -o ro");
  ASSIGN_OR_RETURN(auto raw, read_superblock(device));
  ASSIGN_OR_RETURN(auto verdict, judge_superblock(raw, device.size(), options));
  RETURN_IF_ERROR(check_superblock_checksum(raw));
  options.access = verdict.access;
  auto volume = std::unique_ptr<Volume>(new Volume(std::move(device), options, events, verdict.block_size));
  if (verdict.multi_mount) {
    RETURN_IF_ERROR(volume->claim(*verdict.multi_mount, options));
    // Whoever had it until now may have written since: what was judged must still be there, on the medium.
    alignas(kSuperblockSize) JournalRecovery::RawSuperblock again;
    if (const auto read = volume->device_.read_past_cache(kSuperblockOffset, again); !read)
      return fail(read.error(), fmt::format("cannot read the superblock: {}", read.error().message()));
    if (again != raw)
      return fail(Errno(EBUSY), "somebody else wrote to the volume while it was being mounted; try again");
  }
  ASSIGN_OR_RETURN(const auto recovery, JournalRecovery::open(volume->device_, raw, options, events));
  const auto before = raw;
  FastCommitLog fast_commits;
  if (recovery && recovery->needed()) {
    // First, so that all of the log was read before anything is written.
    auto read = read_fast_commits(*recovery, raw);
    if (!read)
      return std::unexpected(
          JournalRecovery::refusal(volume->device_, options.access, std::move(read.error())));
    fast_commits = *std::move(read);
    RETURN_IF_ERROR(recovery->replay());
    // Its own superblock was in the log as well, most likely.
    ASSIGN_OR_RETURN(raw, read_superblock(volume->device_));
    ASSIGN_OR_RETURN(auto now, judge_superblock(raw, volume->device_.size(), options));
    if (now.block_size != verdict.block_size)
      return fail(kCorrupted, "the journal brought a superblock of another volume; run: e2fsck DEVICE");
    if (now.access != options.access)
      return fail(Errno(EROFS), "the volume turned out to be one that can only be read; mount with -o ro");
    verdict.notices = std::move(now.notices);
  }
  RETURN_IF_ERROR(volume->settle(recovery.get(), fast_commits, before, options));
  for (const auto& notice : verdict.notices) events.notice(notice);
  volume->serves_ = true;
#ifndef NDEBUG
  volume->had_right_sums_ = volume->groups().has_right_sums();
#endif
  if (options.discards == MountOptions::Discards::kWhatIsFreed &&
      options.access == cache::Access::kReadWrite) {
    if (const auto can = volume->device().can_discard(); can)
      volume->discards_freed_ = true;
    else
      volume->tell("option discard: the device has no use for it");
  }
  return volume;
}

Outcome<void> Volume::settle(JournalRecovery* recovery, const FastCommitLog& fast_commits,
                             const std::array<std::byte, kSuperblockSize>& before,
                             const MountOptions& options) {
  const bool writing = options.access == cache::Access::kReadWrite;
  const bool replayed = recovery != nullptr && recovery->needed();
  const JournalMap* const map = recovery != nullptr ? recovery->map() : nullptr;
  const bool replays = !fast_commits.records.empty();
  RETURN_IF_ERROR(start(options,
                        replays   ? Handle::kReplays
                        : writing ? Handle::kChanges
                                  : Handle::kReads,
                        map));
  if (replays) {
    if (auto replayed = apply(fast_commits, options); !replayed)
      return std::unexpected(JournalRecovery::refusal(device_, options.access, std::move(replayed.error())));
  }
  if (!writing) {
    set_trust(GroupBitmaps::Trust::kDoubted);
    fs_->flags &= ~EXT2_FLAG_RW;
    inode_blocks_->forbid_writes();
    records_errors_ = false;
  }
  device_.freeze_overlay();
  if (recovery != nullptr && recovery->error() != 0)
    events_.notice(
        fmt::format("the journal recorded an error when the volume was last used ({}); run: e2fsck "
                    "DEVICE",
                    Errno(recovery->error()).message()));
  if (replayed) {
    events_.notice(Notice::kRecovered, fmt::format("the journal was replayed{}: {}",
                                                   writing ? "" : ", in memory", recovery->summary()));
  }
  if (!writing) return {};
  // The log was read with it.
  device_.stop_read_ahead();
  if (recovery != nullptr) {
    RETURN_IF_ERROR(recovery->empty_log());
    if (replayed) JournalRecovery::keep_errors(before, *fs_->super);
    fs_->super->s_feature_incompat &= ~static_cast<__u32>(EXT3_FEATURE_INCOMPAT_RECOVER);
    if (recovery->error() != 0) fs_->super->s_state |= EXT2_ERROR_FS;
  }
  RETURN_IF_ERROR(mark_in_use());
  if (recovery != nullptr) RETURN_IF_ERROR(recovery->clear_error());
  return has_orphans(super()) ? delete_orphans(options) : Outcome<void>();
}

Outcome<void> Volume::apply(const FastCommitLog& fast_commits, const MountOptions& options) {
  FastCommitSummary summary;
  {
    Metadata metadata(*this);
    RecoveryProgress progress(options.clock, events_);
    ASSIGN_OR_RETURN(summary, replay_fast_commits(metadata, fast_commits.records,
                                                  [&](std::string_view doing, std::uint64_t done,
                                                      std::uint64_t all) { progress.at(doing, done, all); }));
  }
  if (bitmaps_alone_) {
    inode_bitmaps_->blocks().change_all();
    block_bitmaps_->blocks().change_all();
    if (const auto counted = count_all(*this); !counted)
      return fail(counted.error(), fmt::format("the volume's blocks and inodes cannot be counted: {}",
                                               counted.error().message()));
    set_trust(GroupBitmaps::Trust::kVerified);
  }
  const auto written = write_replay();
  if (!written)
    return fail(written.error(),
                fmt::format("the journal's fast commits cannot be written: {}", written.error().message()));
  events_.notice(Notice::kRecovered, fmt::format("{} fast commits were replayed: {} records, {} inodes",
                                                 fast_commits.commits, summary.records, summary.inodes));
  if (!fast_commits.end.empty()) events_.notice(fast_commits.end);
  return {};
}

// In an order that the next mount can go on from, whatever a power cut leaves of it: inodes, and what they
// lead to; which numbers are in use; which blocks are. So what a replay chose itself (the blocks of a new
// directory) is found by its inode, and nothing looks as if another file had it.
Result<void> Volume::write_replay() {
  {
    auto blocks = cache_.begin_write_back();
    std::unordered_set<std::uint64_t> inode_bitmaps;
    for (GroupNumber group = 0; group < groups_->count(); ++group)
      inode_bitmaps.insert(groups_->inode_bitmap(group));
    std::vector<std::size_t> others, bitmaps;
    for (std::size_t index = 0; index < blocks.blocks().size(); ++index) {
      const auto& block = blocks.blocks()[index];
      if (block.role.kind != cache::BlockKind::kBitmap)
        others.push_back(index);
      else if (inode_bitmaps.contains(block.block))
        bitmaps.push_back(index);
    }
    for (const auto& step : {others, bitmaps}) {
      if (const auto written = blocks.write(step); !written) return fail(written.error().error);
      RETURN_IF_ERROR(flush_device());
    }
  }
  RETURN_IF_ERROR(write_back());
  return flush_device();
}

Outcome<void> Volume::delete_orphans(const MountOptions& options) {
  RecoveryProgress progress(options.clock, events_);
  OrphanSummary summary;
  {
    Metadata metadata(*this);
    ASSIGN_OR_RETURN(summary, process_orphans(metadata, [&](const OrphanSummary& so_far) {
                       progress.at("deleting files without a name", so_far.deleted + so_far.truncated, 0);
                     }));
  }
  if (summary.deleted != 0)
    events_.notice(Notice::kRecovered, fmt::format("{} files without a name were deleted", summary.deleted));
  if (summary.truncated != 0) events_.notice(fmt::format("{} truncates were finished", summary.truncated));
  if (summary.left_alone != 0)
    events_.notice("files without a name are left to e2fsck, for errors were recorded; run: e2fsck DEVICE");
  if (const auto written = write_out(); !written)
    return fail(written.error(), fmt::format("the deletion of files without a name cannot be written: {}",
                                             written.error().message()));
  return {};
}

}  // namespace fuse4fs::ext4
