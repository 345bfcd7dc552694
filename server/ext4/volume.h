// SPDX-License-Identifier: GPL-2.0-or-later
// What is mounted: the device, its cache, libext2fs's handle, and how the volume behaves when something is
// wrong.
//
// Locking: any thread; opening, mark_clean() and close() have the volume for themselves. The fields of the
// superblock that change are under a lock of their own (rank kSuperblock). What tells of an error
// (corrupted(), failed(), write_failed()) may be called under any lock of the engine: the error waits in a
// record of its own (rank kErrorRecord) for the next write-back.
// Errors: see errors.h. Corruption is told to Events and recorded in the superblock here, in corrupted().
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/result.h"
#include "server/cache/block_device.h"
#include "server/cache/buffer_cache.h"
#include "server/ext4/block_bitmaps.h"
#include "server/ext4/error_record.h"
#include "server/ext4/ext2.h"
#include "server/ext4/file_system.h"
#include "server/ext4/freed_groups.h"
#include "server/ext4/group_descriptors.h"
#include "server/ext4/inode.h"
#include "server/ext4/inode_bitmaps.h"
#include "server/ext4/inode_blocks.h"
#include "server/ext4/multi_mount_protection.h"
#include "server/ext4/own_changes.h"
#include "server/ext4/reservation_windows.h"
#include "server/ext4/superblock_check.h"
#include "server/ext4/write_order.h"
#include "server/journal/change_log.h"
#include "server/journal/handle.h"

namespace fuse4fs::ext4 {

struct FastCommitLog;
class JournalMap;
class JournalRecovery;

class Volume {
 public:
  static Outcome<std::unique_ptr<Volume>> open(cache::BlockDevice device, const MountOptions& options,
                                               Events& events);
  ~Volume();
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  [[nodiscard]] const cache::BlockDevice& device() const { return device_; }
  [[nodiscard]] std::uint32_t block_size() const { return block_size_; }
  [[nodiscard]] unsigned block_bits() const { return block_bits_; }
  // That hold so many bytes.
  [[nodiscard]] std::uint64_t blocks_for(std::uint64_t bytes) const {
    return (bytes >> block_bits_) + ((bytes & (block_size_ - 1)) == 0 ? 0 : 1);
  }
  [[nodiscard]] std::uint32_t cluster_blocks() const { return cluster_blocks_; }
  [[nodiscard]] cache::Access access() const;
  [[nodiscard]] bool has_acls() const { return has_acls_; }
  // Whether there is an inode whose changes are to be on the medium at once (chattr +S, +D), as far as known.
  [[nodiscard]] bool has_synchronous_inodes() const { return has_synchronous_inodes_; }
  void note_flags(std::uint32_t of_an_inode) {
    if ((of_an_inode & (EXT2_SYNC_FL | EXT2_DIRSYNC_FL)) != 0) has_synchronous_inodes_ = true;
  }
  // EIO after a shutdown; the second also EROFS where nothing may be written.
  [[nodiscard]] Result<void> check_alive() const;
  [[nodiscard]] Result<void> check_writable() const;
  void tell(std::string_view notice) { events_.notice(notice); }
  void device_failed(std::string_view words, const EventSubject& about) {
    events_.device_error(words, about);
  }
  // Metadata that was promised may never have reached the medium. The kernel tells of such a failure once, so
  // what comes after it may look well: nothing is called synced or clean any more.
  [[nodiscard]] bool has_lost_writes() const { return lost_writes_; }
  // All that was written is on the medium. A failure is to be handed to write_failed().
  Result<void> flush_device();

  [[nodiscard]] std::string label() const {
    const std::lock_guard lock(superblock_);
    return label_;
  }
  // At most 16 bytes. Into the superblock and its backups, as the kernel's ext4 does.
  Result<void> set_label(std::string_view label);

  // An inode has extended attributes from now on: the superblock is to say so. Under a handle.
  void note_xattrs();
  // For what does not change while the volume is mounted.
  [[nodiscard]] ext2_filsys fs() { return fs_; }
  [[nodiscard]] const ext2_super_block& super() const { return *fs_->super; }
  // For libext2fs's feature tests, which want it writable.
  [[nodiscard]] ext2_super_block* super_pointer() const { return fs_->super; }
  [[nodiscard]] cache::BufferCache& cache() { return cache_; }
  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  // Blocks of the volume's own structures, as statfs(2) leaves them out.
  [[nodiscard]] std::uint64_t overhead() const { return overhead_; }
  [[nodiscard]] bool has_extents() const { return ext2fs_has_feature_extents(fs_->super) != 0; }
  // NOLINTBEGIN(bugprone-unchecked-optional-access): there once the volume is open
  [[nodiscard]] GroupDescriptors& groups() { return *groups_; }
  [[nodiscard]] InodeBitmaps& inode_bitmaps() { return *inode_bitmaps_; }
  [[nodiscard]] BlockBitmaps& block_bitmaps() { return *block_bitmaps_; }
  // NOLINTEND(bugprone-unchecked-optional-access)
  // Groups whose bitmaps and tables lie together in the first of them; 1: each has its own.
  [[nodiscard]] std::uint64_t flex_size() const {
    return ext2fs_has_feature_flex_bg(fs_->super) ? std::uint64_t{1} << fs_->super->s_log_groups_per_flex : 1;
  }
  // Where the blocks of an inode begin: with the group that it lies in. Of a flex group of some size the
  // first group is left to metadata, which is read together; data of files begins with the next one. As the
  // kernel, but that each process begins elsewhere in the group there: here nobody knows which one writes.
  enum class Contents { kData, kMetadata };
  [[nodiscard]] std::uint64_t goal_of(InodeNumber number, Contents contents) const;
  [[nodiscard]] std::uint32_t checksum_seed() const { return fs_->csum_seed; }
  [[nodiscard]] bool has_checksums() const { return ext2fs_has_feature_metadata_csum(fs_->super) != 0; }

  // Tells and records that the volume says what cannot be; `inode` and `block` may be 0. Answers EUCLEAN.
  Errno corrupted(InodeNumber inode, std::uint64_t block, std::string_view words);
  // What libext2fs answered, as ours. `doing` names what was tried.
  Errno failed(errcode_t code, InodeNumber inode, std::string_view doing);
  Result<void> check(errcode_t code, InodeNumber inode, std::string_view doing);
  // Whether the table has a sound inode there that is not deleted, whatever its bitmap says.
  [[nodiscard]] bool has_live_inode(InodeNumber number);
  // As many bytes of it as there are in `into`.
  Result<void> read_inode(InodeNumber number, std::span<std::byte> into,
                          std::string_view doing = "reading an inode");
  // What lies behind these bytes on the volume stays.
  Result<void> write_inode(InodeNumber number, std::span<const std::byte> from,
                           std::string_view doing = "writing an inode");
  // All of it that this project knows.
  Result<void> write_inode(const Inode& inode);
  // InodeBlocks::begin().
  Result<void> begin_table_block(InodeNumber number);
  // Behind what is known may lie a former owner's bytes: zeros from now on.
  Result<void> write_new_inode(const Inode& inode);
  // Blocks of it were freed. Where it had counted fewer, that is told, and none are left.
  void uncount_blocks(Inode& inode, std::uint64_t clusters);
  // Blocks came to it. EFBIG where it cannot count so many.
  Result<void> count_blocks(Inode& inode, std::uint64_t clusters) const;

  // Metadata could not be written: told, recorded, and the policy applied. Answers EIO.
  Errno write_failed(std::string_view words, Errno error, std::uint64_t block = 0);

  // Whether the blocks lie in the volume and outside its own structures, so that a file may own them.
  [[nodiscard]] bool may_be_owned(std::uint64_t first, std::uint64_t count) const;
  [[nodiscard]] bool is_inode_table(std::uint64_t block) const;
  // Calls `see(first, end)` for what of the volume's own structures lies from `first` to before `end`.
  template <class See>
  void for_own_structures(std::uint64_t first, std::uint64_t end, const See& see) const {
    auto next =
        std::upper_bound(own_structures_.begin(), own_structures_.end(), std::pair(first, UINT64_MAX));
    if (next != own_structures_.begin() && std::prev(next)->second > first) --next;
    for (; next != own_structures_.end() && next->first < end; ++next)
      see(std::max(next->first, first), std::min(next->second, end));
  }

  // Blocks of the group are about to go back to its bitmap, under its lock: nobody gets them before that is
  // on the medium.
  void note_freed(GroupNumber group, BlockRun run);
  // Likewise.
  void note_inode_freed(InodeNumber number) {
    if (serves_) order_.unreleased().add_inode(number);
  }
  // Zeros go to the device, past the cache, and will be on the medium before what is changed by now.
  Result<void> clear_blocks(std::uint64_t first, std::uint32_t count);
  // What was unused of the group's inode table holds zeros, by writes that the device has taken. With no lock
  // held, nor a handle.
  void note_table_initialised(GroupNumber group);
  // Something was freed that a write-back would let go of: after ENOSPC, one may help.
  [[nodiscard]] bool has_unreleased() { return !order_.unreleased().is_empty(); }
  // More waits for one than should be in memory: whoever made so much writes it, as soon as he has no handle.
  [[nodiscard]] bool wants_write_back() {
    return cache_.wants_write_back() || order_.unreleased().are_many();
  }
  // The inode, before what is about to be done to it, is what a write-back shows first (write_order.h).
  Result<void> keep_earlier(InodeNumber number, EarlierInode::Keeps what);
  [[nodiscard]] WriteOrder& order() { return order_; }
  [[nodiscard]] ReservationWindows& reservations() { return reservations_; }
  // Changes begin their handles here, and change blocks through it; a write-back holds them off while it
  // looks at what is dirty.
  [[nodiscard]] journal::Journal& journal() { return journal_; }
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): there once the volume is open
  [[nodiscard]] FreedGroups& freed_groups() { return *freed_groups_; }

  // All that is dirty now, bitmaps, descriptors and superblock included, to the device, in order
  // (write_order.h). Not all of it to its medium. Waits for open handles; changes go on while it writes.
  Result<void> write_back();
  // Takes the errors that wait into the superblock.
  [[nodiscard]] bool needs_write_back();
  // The same, to the medium.
  Result<void> write_out();
  // write_out(), and the last write: clean again, if it was clean when it was mounted and nothing was lost.
  Result<void> mark_clean();
  // write_out(), and the volume on the medium is what mark_clean() would leave, while `unlinked` inodes do
  // not wait for their deletion: those are e2fsck's to find. thaw() takes that back. Nothing is changed
  // meanwhile: own_changes() are stopped by the caller.
  enum class Unlinked { kNone, kSome };
  Result<void> freeze(Unlinked unlinked);
  Result<void> thaw();
  // Stopped while the volume is frozen: what is not allowed then waits or is left as it is.
  [[nodiscard]] OwnChanges& own_changes() { return own_changes_; }
  // Everything answers EIO from now on, and nothing is written any more. Whatever the flush before it came
  // to, that is so.
  Result<void> shut_down(ShutdownMode mode);
  // After mark_clean(): others may mount it.
  void close();

  // FileSystem::keep_claim().
  void keep_claim();
  // Somebody else has the volume by now: nothing is written any more. EROFS then.
  Result<void> check_claim();

 private:
  Volume(cache::BlockDevice device, const MountOptions& options, Events& events, std::uint32_t block_size);
  Outcome<void> claim(const MultiMountPlace& place, const MountOptions& options);
  void claim_lost(std::string_view why);
  enum class CleanMark { kClean, kInUse };
  void set_clean_mark(CleanMark mark);
  // libext2fs's handle, and all that is known once it is open. kReplays: fast commits are to be replayed, in
  // memory where the mount only reads; then bitmaps need not have the checksums that the descriptors name.
  // `journal` may be empty.
  enum class Handle { kReads, kChanges, kReplays };
  Outcome<void> start(const MountOptions& options, Handle handle, const JournalMap* journal);
  Outcome<void> judge_bitmaps(Handle handle);
  void set_trust(GroupBitmaps::Trust trust);
  // `before` is the superblock as it was before the replay; `recovery` may be empty.
  Outcome<void> settle(JournalRecovery* recovery, const FastCommitLog& fast_commits,
                       const std::array<std::byte, kSuperblockSize>& before, const MountOptions& options);
  Outcome<void> apply(const FastCommitLog& fast_commits, const MountOptions& options);
  Result<void> write_replay();
  Outcome<void> delete_orphans(const MountOptions& options);
  Outcome<void> map_own_structures(const JournalMap* journal);
  Outcome<void> mark_in_use();
  static Volume& of(ext2_filsys fs) { return *static_cast<Volume*>(fs->priv_data); }
  void record_error(InodeNumber inode, std::uint64_t block, int error);
  void apply_policy();
  void write_errors_alone();
  struct PushFailure {
    Errno error;
    std::string words;        // what failed
    std::uint64_t block = 0;  // 0: not known
  };
  using Pushed = std::expected<void, PushFailure>;
  Pushed write_in_order();
  // What was freed and is to be discarded goes to `freed`: when nobody waits for the next write-back any
  // more.
  Pushed write_in_order(std::unique_ptr<Unreleased::Discard>& freed);
  void discard(Unreleased::Discard& freed);
  Pushed write_summary();
#ifndef NDEBUG
  void check_sums() const;
#endif
  static Pushed pushed(const cache::WriteOutcome& written);

  enum class Health { kGood, kReadOnly, kShutDown };

  cache::BlockDevice device_;
  Events& events_;
  const std::uint32_t block_size_;
  const unsigned block_bits_;
  const bool has_acls_;
  cache::BufferCache cache_;
  journal::NoJournal log_{cache_};
  journal::Journal journal_{log_};
  RankedMutex<std::mutex, LockRank::kWriteBackTurn> write_back_turn_;
  WriteOrder order_{*this};
  ReservationWindows reservations_;
  // From here on an order matters: until then the next mount would begin anew.
  std::atomic<bool> serves_{false};
  std::uint32_t cluster_blocks_ = 1;
  std::uint64_t blocks_ = 0;
  std::uint64_t overhead_ = 0;
  // The superblock's fields that change, and whether it is to be written.
  mutable RankedMutex<std::mutex, LockRank::kSuperblock> superblock_;
  std::string label_;  // under superblock_
  ext2_filsys fs_ = nullptr;
  // As soon as fs_ is there.
  std::optional<InodeBlocks> inode_blocks_;
  std::optional<GroupDescriptors> groups_;
  std::optional<InodeBitmaps> inode_bitmaps_;
  std::optional<BlockBitmaps> block_bitmaps_;
  // The bitmaps and the descriptors are not of one time: a recovery was cut short while it wrote them.
  bool bitmaps_alone_ = false;
  std::atomic<bool> discards_freed_{false};
#ifndef NDEBUG
  bool had_right_sums_ = false;  // when it began to serve
#endif
  ErrorPolicy policy_ = ErrorPolicy::kContinue;
  bool was_clean_ = false;
  OwnChanges own_changes_;
  std::atomic<Health> health_{Health::kGood};
  std::atomic<bool> lost_writes_{false};
  std::atomic<bool> records_errors_{false};  // where libext2fs may write
  std::atomic<bool> errors_wait_{false};     // there is something in errors_
  Guarded<WaitingErrors, LockRank::kErrorRecord> errors_;
  std::atomic<bool> has_synchronous_inodes_{false};
  std::optional<FreedGroups> freed_groups_;  // as soon as fs_ is there
  // The claim of it lives as long as the mount.
  std::shared_ptr<cache::BlockDevice> external_journal_;
  // Superblocks, descriptors, bitmaps, inode tables, the journal: first block and the one behind the last,
  // sorted, apart.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> own_structures_;
  std::vector<std::uint64_t> inode_tables_;  // first blocks, sorted
  // Last, so that it goes before the device: where a mount fails, it gives the volume back.
  std::unique_ptr<MultiMountProtection> protection_;
};

}  // namespace fuse4fs::ext4
