// SPDX-License-Identifier: GPL-2.0-or-later
// Volume: from a device that may hold a dirty journal to a volume that is ready to serve. The order is in
// journal_recovery.h.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "server/ext4/journal_recovery.h"
#include "server/ext4/metadata.h"
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
  if (recovery && recovery->needed()) {
    if (recovery->fast_commits().count != 0)
      return fail(Errno(EOPNOTSUPP), "the journal holds fast commits; run: e2fsck -p DEVICE");
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
  RETURN_IF_ERROR(volume->settle(recovery.get(), before, options));
  for (const auto& notice : verdict.notices) events.notice(notice);
  return volume;
}

Outcome<void> Volume::settle(JournalRecovery* recovery, const std::array<std::byte, kSuperblockSize>& before,
                             const MountOptions& options) {
  const bool writing = options.access == cache::Access::kReadWrite;
  const bool replayed = recovery != nullptr && recovery->needed();
  const JournalMap* const map = recovery != nullptr ? recovery->map() : nullptr;
  RETURN_IF_ERROR(start(options, writing ? Handle::kChanges : Handle::kReads, map));
  device_.freeze_overlay();
  if (writing && (super().s_last_orphan != 0 ||
                  (super().s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT) != 0))
    return fail(kCorrupted, "the volume has files whose deletion was cut short; run: e2fsck -p DEVICE");
  if (recovery != nullptr && recovery->error() != 0)
    events_.notice(
        fmt::format("the journal recorded an error when the volume was last used ({}); run: e2fsck "
                    "DEVICE",
                    Errno(recovery->error()).message()));
  if (replayed) {
    events_.notice(
        fmt::format("the journal was replayed{}: {}", writing ? "" : ", in memory", recovery->summary()));
  }
  if (!writing) return {};
  if (recovery != nullptr) {
    RETURN_IF_ERROR(recovery->empty_log());
    if (replayed) JournalRecovery::keep_errors(before, *fs_->super);
    fs_->super->s_feature_incompat &= ~static_cast<__u32>(EXT3_FEATURE_INCOMPAT_RECOVER);
    if (recovery->error() != 0) fs_->super->s_state |= EXT2_ERROR_FS;
  }
  RETURN_IF_ERROR(mark_in_use());
  if (recovery != nullptr) RETURN_IF_ERROR(recovery->clear_error());
  return {};
}

}  // namespace fuse4fs::ext4
