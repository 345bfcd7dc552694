// SPDX-License-Identifier: GPL-2.0-or-later
// A volume that was not unmounted: its journal is found, judged as a whole, and replayed, before libext2fs
// sees the volume.
//
// Order, for a mount that writes, with jbd2's flushes:
//   open()               log found and judged; nothing was written
//   replay()             every block home; flush
//   (the volume is opened, fast commits are replayed by the caller; flush)
//   empty_log()          the journal's superblock says "empty"; flush
//   (the caller clears the recovery flag and writes the volume's superblock; flush)
//   clear_error()        the error that the journal recorded has moved to that superblock
// The power may fail at any point: the next mount begins anew, and ends the same.
//
// A mount that only reads replays into memory: the device gets an overlay, and nothing is written anywhere.
// The fast commits go into it as well, until the caller freezes it.
//
// Locking: none, one thread, before the mount serves. Errors: Failures whose words name the block and what to
// do. Where the log is damaged that is recorded in the superblock of a volume that is to be written.
// Facts: server/journal/, the kernel's ext4_load_journal() for the order and for what it keeps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"
#include "server/ext4/journal_map.h"
#include "server/ext4/recovery_progress.h"
#include "server/ext4/superblock_check.h"
#include "server/journal/log_source.h"
#include "server/journal/recovery.h"
#include "server/journal/superblock.h"

namespace fuse4fs::ext4 {

class JournalRecovery {
 public:
  using RawSuperblock = std::array<std::byte, kSuperblockSize>;

  // Empty where there is no journal to look at: the volume has none, noload, or an external one that the
  // mount was not given and that holds nothing. `raw` was judged; `device` and `events` must outlive it.
  static Outcome<std::unique_ptr<JournalRecovery>> open(cache::BlockDevice& device, const RawSuperblock& raw,
                                                        const MountOptions& options, Events& events);

  // Whether there is anything to be replayed.
  [[nodiscard]] bool needed() const { return needed_; }
  // Onto the device, or into an overlay that is laid over it.
  Outcome<void> replay();
  // The blocks of the fast-commit area, one after the other, until `take` has had enough. They stay
  // where they are until empty_log(), and the mount reads them before replay().
  [[nodiscard]] const journal::FastCommitArea& fast_commits() const { return plan_.fast_commit; }
  Outcome<void> read_fast_commits(const std::function<Outcome<bool>(std::span<const std::byte>)>& take);

  // These write; not for mounts that only read.
  Outcome<void> empty_log();
  Outcome<void> clear_error();

  // What the journal recorded, a positive errno; 0: nothing.
  [[nodiscard]] int error() const { return error_of(superblock_.error); }
  // `recorded` as it is on disk: what is no negative errno counts as EIO.
  static int error_of(std::int32_t recorded);
  // Of an internal journal.
  [[nodiscard]] const JournalMap* map() const { return map_ ? &*map_ : nullptr; }
  // "3 transactions, 120 blocks".
  [[nodiscard]] std::string summary() const;
  RecoveryProgress& progress() { return progress_; }

  // The error state that `before` a replay was in the superblock, into what is there after it: a log does not
  // carry it, and it must not be lost.
  static void keep_errors(const RawSuperblock& before, ext2_super_block& now);
  // A failure of recovery, with what to do about it. Where it is by what the volume says it is recorded in
  // the superblock of a volume that is to be written.
  static Failure refusal(const cache::BlockDevice& device, cache::Access access, Failure failure);

 private:
  JournalRecovery(cache::BlockDevice& device, const MountOptions& options, Events& events)
      : device_(device),
        external_(options.external_journal),
        writing_(options.access == cache::Access::kReadWrite),
        events_(events),
        progress_(options.clock, events) {}

  // What cannot be written is left: the mount fails in any case. So is a superblock whose checksum is wrong.
  static void record(const cache::BlockDevice& device, const Failure& failure);
  Outcome<void> find(const ext2_super_block& super);
  Outcome<void> judge(const ext2_super_block& super);
  [[nodiscard]] std::optional<std::string> object(std::uint64_t home, journal::HomeUse use) const;
  Outcome<void> replay_onto_device();
  void replay_into_overlay();
  // Where block `log` of the log lies, on the device that the log is on.
  [[nodiscard]] std::uint64_t place_of(std::uint32_t log) const;
  [[nodiscard]] const cache::BlockDevice& log_device() const { return external_ ? *external_ : device_; }
  Outcome<void> write_superblock();

  cache::BlockDevice& device_;
  std::shared_ptr<cache::BlockDevice> external_;
  const bool writing_;
  Events& events_;
  RecoveryProgress progress_;
  std::uint32_t block_size_ = 0;
  std::uint64_t superblock_home_ = 0;
  std::uint64_t guard_block_ = 0;  // multi-mount protection's; 0: none
  std::optional<JournalMap> map_;
  std::unique_ptr<journal::LogSource> log_;
  std::vector<std::byte> raw_superblock_;
  journal::JournalSuperblock superblock_;
  journal::ReplayPlan plan_;
  std::uint64_t replayed_blocks_ = 0;
  bool needed_ = false;
};

}  // namespace fuse4fs::ext4
