// SPDX-License-Identifier: GPL-2.0-or-later
// Volume: what is dirty goes to the device, and its medium.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "server/ext4/credits.h"
#include "server/ext4/errors.h"
#include "server/ext4/superblock_check.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {

bool Volume::needs_write_back() {
  if (device_.access() != cache::Access::kReadWrite || health_ == Health::kShutDown) return false;
  const std::lock_guard lock(superblock_);
  if (errors_wait_.exchange(false)) {
    std::exchange(*errors_.lock(), {}).note_in(*fs_->super);
    ext2fs_mark_super_dirty(fs_);
  }
  const bool dirty = (fs_->flags & EXT2_FLAG_DIRTY) != 0 || cache_.dirty_blocks() != 0;
  return (fs_->flags & EXT2_FLAG_RW) != 0 && dirty;
}

#ifndef NDEBUG
void Volume::check_sums() const {
  if (!had_right_sums_ || groups_->has_right_sums()) return;
  std::fputs("the sums of what is free are not those of the groups any more\n", stderr);
  std::abort();
}
#endif

Result<void> Volume::clear_blocks(std::uint64_t first, std::uint32_t count) {
  const auto written =
      device_.write_zeros(cache::IoPath::kDirect, first << block_bits_, std::uint64_t{count} << block_bits_);
  if (!written) return check(written.error().value(), 0, "clearing a part of an inode table");
  order_.note_contents_moved();
  return {};
}

void Volume::note_table_initialised(GroupNumber group) {
  const auto pause = journal_.pause();
  groups().note_table_initialised(group);
  // The zeros are on the medium first.
  order_.note_contents_moved();
  const std::lock_guard lock(superblock_);
  ext2fs_mark_super_dirty(fs_);
}

// Bitmaps, descriptors and superblock, into the cache. No change under a handle, but a part of the
// write-back: under its Pause.
Volume::Pushed Volume::write_summary() {
  const auto failed = [](Errno error) {
    return std::unexpected(PushFailure{.error = error, .words = "the volume's summary cannot be written"});
  };
  for (auto* const bitmaps : {&block_bitmaps().blocks(), &inode_bitmaps().blocks()}) {
    if (const auto sealed = bitmaps->seal(); !sealed) return failed(sealed.error());
  }
  bool note_sums = false;
  if (groups().has_changed()) {
    if (const auto written = groups().write(cache_); !written) return failed(written.error());
    note_sums = true;
  }
  const std::lock_guard lock(superblock_);
  if (note_sums) ext2fs_mark_super_dirty(fs_);
  if ((fs_->flags & EXT2_FLAG_DIRTY) == 0) return {};
  auto& super = *fs_->super;
  const auto now = std::time(nullptr);
  super.s_wtime = static_cast<__u32>(now);
  super.s_wtime_hi = static_cast<__u8>(now >> 32);
  super.s_block_group_nr = 0;
  if (has_checksums()) super.s_checksum = superblock_checksum(super);
  const auto written = cache_.write(kSuperblockOffset, std::as_bytes(std::span(&super, 1)));
  if (!written) return failed(written.error());
  fs_->flags &= ~(EXT2_FLAG_DIRTY | EXT2_FLAG_CHANGED);
  return {};
}

Volume::Pushed Volume::pushed(const cache::WriteOutcome& written) {
  if (written) return {};
  const auto& failure = written.error();
  auto words = fmt::format("metadata cannot be written, block {}", failure.first);
  if (failure.count > 1) words += fmt::format(" to {}", failure.first + failure.count - 1);
  return std::unexpected(
      PushFailure{.error = failure.error, .words = std::move(words), .block = failure.first});
}

Volume::Pushed Volume::write_in_order() {
  std::unique_ptr<Unreleased::Discard> freed;
  auto outcome = write_in_order(freed);
  if (freed) discard(*freed);
  return outcome;
}

// It is a service to the device: nothing depends on it. Whose write-back it was waits for it, and so may
// others for the blocks: what takes long is left to FITRIM.
void Volume::discard(Unreleased::Discard& freed) {
  constexpr std::uint64_t kAtOnce = std::uint64_t{256} << 20;  // bytes
  constexpr auto kPatience = std::chrono::seconds(2);
  const std::uint64_t most = std::max<std::uint64_t>(kAtOnce >> block_bits_, 1);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  const BlockRuns blocks = freed.blocks();
  blocks.for_each([&](std::uint64_t first, std::uint64_t count) {
    while (count != 0 && discards_freed_ && !freed.is_unwanted() && std::chrono::steady_clock::now() < end) {
      const std::uint64_t piece = std::min(count, most);
      const auto done = device_.discard(first << block_bits_, piece << block_bits_);
      // EBUSY: a neighbour's page is on its way, as is usual.
      if (!done && done.error() != Errno(EBUSY) && discards_freed_.exchange(false))
        tell(fmt::format("freed blocks are not discarded any more: the device said: {}",
                         done.error().message()));
      freed.give_back(first, piece);
      first += piece;
      count -= piece;
    }
  });
}

Volume::Pushed Volume::write_in_order(std::unique_ptr<Unreleased::Discard>& freed) {
  const std::lock_guard turn(write_back_turn_);
  std::optional<cache::WriteBack> blocks;
  OrderNotes notes;
  auto& changes = journal_.last_changes();
  journal::LastChanges::WriteBack number = 0;
  {
    const auto pause = journal_.pause();
    number = changes.begin_write_back();
    if (!needs_write_back() && !has_unreleased() && !order_.wants_write_back()) {
      const bool writes = device_.access() == cache::Access::kReadWrite && health_ != Health::kShutDown;
      if (writes) changes.note_written(number);
      return {};
    }
    if (auto written = write_summary(); !written) return written;
    blocks.emplace(cache_.begin_write_back());
    notes = order_.begin();
  }
  Pushed outcome;
  const auto note = [&](Pushed done) {
    // The first failure is told; what comes later is tried all the same.
    if (outcome && !done) outcome = std::move(done);
  };
  const auto flush = [&] {
    if (const auto flushed = flush_device(); !flushed)
      note(
          std::unexpected(PushFailure{.error = flushed.error(), .words = "the device could not be flushed"}));
  };
  const auto steps = order_.plan(blocks->blocks(), notes);
  if (!steps.empty() && notes.contents_moved) {
    flush();
    if (!outcome) {
      // Data may not have arrived: what shows it stays dirty, and waits for a flush that succeeds.
      order_.note_contents_moved();
      return outcome;
    }
  }
  for (const auto& step : steps) {
    if (&step != &steps.front()) flush();
    std::vector<std::size_t> whole;
    for (const auto& item : step) {
      if (item.image.empty())
        whole.push_back(item.index);
      else
        note(pushed(blocks->write_instead(item.index, item.image)));
    }
    note(pushed(blocks->write(whole)));
  }
  blocks.reset();
  if (outcome) changes.note_written(number);
  if (!has_unreleased()) return outcome;
  flush();
  if (!outcome) return outcome;
  // After a write that was lost nobody knows what the medium shows.
  if (discards_freed_ && !lost_writes_)
    freed = order_.unreleased().release_to_discard();
  else
    order_.unreleased().release();
  return outcome;
}

Result<void> Volume::write_back() {
  if (health_ == Health::kShutDown) return {};
  if (const auto written = write_in_order(); !written)
    return fail(write_failed(written.error().words, written.error().error, written.error().block));
  return {};
}

Result<void> Volume::flush_device() {
  if (device_.access() != cache::Access::kReadWrite) return {};
  const auto flushed = device_.flush();
  // At once: a flush of another thread that comes next finds no error any more, but this.
  if (!flushed) lost_writes_ = true;
  return flushed;
}

Errno Volume::write_failed(std::string_view words, Errno error, std::uint64_t block) {
  lost_writes_ = true;
  record_error(0, block, EIO);
  events_.device_error(fmt::format("{} ({})", words, error.message()),
                       {.block = block, .error = error.value()});
  apply_policy();
  return Errno(EIO);
}

Result<void> Volume::write_out() {
  if (!records_errors_) return {};
  Result<void> outcome = write_back();
  if (const auto flushed = flush_device(); !flushed)
    outcome = fail(write_failed("the device could not be flushed", flushed.error()));
  if (outcome && lost_writes_) outcome = fail(EIO);
  if (outcome) return {};
  if (device_.access() != cache::Access::kReadWrite) return outcome;
  // What was just recorded about it, as far as the device lets it in.
  (void)write_in_order();
  (void)device_.flush();
  return outcome;
}

Result<void> Volume::mark_clean() {
  if (!records_errors_) return {};
#ifndef NDEBUG
  check_sums();
#endif
  // All else first: the volume is clean when this bit arrives, not before.
  RETURN_IF_ERROR(write_out());
  if (health_ == Health::kShutDown || !was_clean_ || (fs_->super->s_state & EXT2_ERROR_FS) != 0) return {};
  set_clean_mark(CleanMark::kClean);
  return write_out();
}

Result<void> Volume::freeze(Unlinked unlinked) {
  if (!records_errors_) return {};
  RETURN_IF_ERROR(write_out());
  if (unlinked != Unlinked::kNone || health_ != Health::kGood || !was_clean_) return {};
  set_clean_mark(CleanMark::kClean);
  auto outcome = write_out();
  // It goes on as it is, and whatever of this came to the medium is put right by the next write-back.
  if (!outcome) set_clean_mark(CleanMark::kInUse);
  return outcome;
}

Result<void> Volume::thaw() {
  if (!records_errors_ || health_ != Health::kGood) return {};
  set_clean_mark(CleanMark::kInUse);
  return write_out();
}

void Volume::set_clean_mark(CleanMark mark) {
  const auto handle = journal_.start(credits::of_superblock);
  const std::lock_guard lock(superblock_);
  auto& state = fs_->super->s_state;
  if (mark == CleanMark::kInUse)
    state &= static_cast<__u16>(~EXT2_VALID_FS);
  else if ((state & EXT2_ERROR_FS) == 0)
    state |= EXT2_VALID_FS;
  ext2fs_mark_super_dirty(fs_);
}

Result<void> Volume::shut_down(ShutdownMode mode) {
  Result<void> outcome;
  if (mode == ShutdownMode::kFlushFirst) outcome = write_out();
  health_ = Health::kShutDown;
  events_.notice(Notice::kShutDown, "shut down as asked: everything answers EIO from now on");
  return outcome;
}

}  // namespace fuse4fs::ext4
