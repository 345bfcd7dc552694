// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: FITRIM.
//
// What is discarded is lost for good, so a block must be free on the medium and not only in memory: until
// then a crash brings back the file that it was freed from. Whatever was freed since the last flush is
// therefore written first. Discards go out in pieces, which nobody can allocate meanwhile (unreleased.h), and
// for which nobody waits who finds other blocks.
#include <algorithm>
#include <optional>
#include <vector>

#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

// Few devices can discard less than this. (The kernel knows each one's granularity; the server's descriptor
// does not tell.)
constexpr std::uint64_t kLeast = 4096;
constexpr std::uint64_t kAtOnce = std::uint64_t{256} << 20;  // bytes out of reach of others
// How often frees by others may send us back to flush before the rest of a group is left for the next time.
constexpr int kPatience = 3;

}  // namespace

class Ext4FileSystem::Trim {
 public:
  // Units are blocks.
  struct Wish {
    std::uint64_t first, end, minimum;
  };

  explicit Trim(Volume& volume) : volume_(volume) {}

  Result<std::uint64_t> run(ByteRange range, std::uint64_t minimum) {
    ASSIGN_OR_RETURN(const auto wish, prepare(range, minimum));
    if (!wish) return 0;
    RETURN_IF_ERROR(settle());
    const auto last = group_of(wish->end - 1);
    for (auto group = group_of(wish->first); group <= last; ++group)
      RETURN_IF_ERROR(trim_group(*wish, group));
    volume_.freed_groups().set_last_minimum(wish->minimum);
    return discarded_ << volume_.block_bits();
  }

 private:
  Result<std::optional<Wish>> prepare(ByteRange range, std::uint64_t minimum) {
    RETURN_IF_ERROR(volume_.check_writable());
    RETURN_IF_ERROR(volume_.device().can_discard());
    const auto& super = volume_.super();
    const unsigned bits = volume_.block_bits();
    begin_ = super.s_first_data_block;
    per_group_ = super.s_blocks_per_group;
    const std::uint64_t cluster = volume_.cluster_blocks();
    const auto whole = [&](std::uint64_t blocks) { return (blocks + cluster - 1) & ~(cluster - 1); };
    Wish wish{};
    wish.first = range.offset >> bits;
    wish.minimum = whole(minimum >> bits);
    if (range.length < volume_.block_size() || wish.first >= volume_.blocks() || wish.minimum > per_group_)
      return fail(EINVAL);
    if (minimum < kLeast) wish.minimum = std::max(cluster, whole(kLeast >> bits));
    wish.end = wish.first + std::min(range.length >> bits, volume_.blocks() - wish.first);
    if (wish.end <= begin_ + 1) return std::nullopt;
    wish.first = std::max(wish.first, begin_);
    // The ends may lie inside of clusters: those count whole.
    wish.first = ((wish.first - begin_) & ~(cluster - 1)) + begin_;
    wish.end = std::min(whole(wish.end - begin_) + begin_, volume_.blocks());
    return wish;
  }

  [[nodiscard]] GroupNumber group_of(std::uint64_t block) const {
    return volume_.block_bitmaps().group_of(block);
  }

  // How far it is through a group.
  struct Walk {
    GroupNumber group;
    std::uint64_t next, end;
    std::uint64_t began = 0;    // by the clock of FreedGroups
    std::uint64_t run_end = 0;  // up to here a run is known to be long enough
    bool all = false;           // nothing was left out
  };

  Result<void> trim_group(const Wish& wish, GroupNumber group) {
    const BlockRun blocks = volume_.block_bitmaps().blocks_of(group);
    Walk walk{
        .group = group, .next = std::max(wish.first, blocks.first), .end = std::min(wish.end, blocks.end())};
    walk.all = walk.next == blocks.first && walk.end == blocks.end();
    auto& groups = volume_.freed_groups();
    const auto is_wanted = [&](GroupNumber next) { return !groups.is_trimmed(next, wish.minimum); };
    if (is_wanted(group))
      volume_.block_bitmaps().blocks().read_ahead(
          group, [&](GroupNumber next) { return next <= group_of(wish.end - 1) && is_wanted(next); });
    for (int flushed = 0; walk.next < walk.end;) {
      ASSIGN_OR_RETURN(const Step step, discard_next(wish, walk));
      if (step == Step::kTrimmed) return {};
      if (step == Step::kDiscarded) continue;
      if (flushed++ == kPatience) return {};
      RETURN_IF_ERROR(settle());
    }
    if (walk.all) groups.note_trimmed(group, walk.began);
    return {};
  }

  // kFreed: blocks that are perhaps not free on the medium. kTrimmed: it was done before.
  enum class Step { kDiscarded, kFreed, kTrimmed };

  // Up to kAtOnce.
  Result<Step> discard_next(const Wish& wish, Walk& walk) {
    Unreleased::Discard discard(volume_.order().unreleased());
    std::vector<BlockRun> runs;
    {
      const auto lock = volume_.groups().lock(walk.group);
      RETURN_IF_ERROR(volume_.check_writable());
      auto& groups = volume_.freed_groups();
      if (walk.began == 0) {
        if (groups.is_trimmed(walk.group, wish.minimum)) return Step::kTrimmed;
        walk.began = groups.now();
      }
      if (groups.freed_since(walk.group, settled_)) return Step::kFreed;
      ASSIGN_OR_RETURN(runs, find_next(wish, walk));
      for (const BlockRun run : runs) discard.add(run.first, run.count);
    }
    const unsigned bits = volume_.block_bits();
    for (const BlockRun run : runs) {
      RETURN_IF_ERROR(discard_run({run.first << bits, run.count << bits}));
      discarded_ += run.count;
    }
    return Step::kDiscarded;
  }

  Result<void> discard_run(ByteRange range) {
    constexpr int kTries = 3;
    auto done = volume_.device().discard(range.offset, range.length);
    for (int tried = 1; tried < kTries && !done && done.error() == Errno(EBUSY); ++tried) {
      if (const auto flushed = volume_.flush_device(); !flushed)
        return fail(volume_.write_failed("the device could not be flushed", flushed.error()));
      done = volume_.device().discard(range.offset, range.length);
    }
    return done;
  }

  // With the group locked: what is to be discarded next.
  Result<std::vector<BlockRun>> find_next(const Wish& wish, Walk& walk) {
    const std::uint64_t most = std::max(kAtOnce >> volume_.block_bits(), std::uint64_t{1});
    std::vector<BlockRun> runs;
    for (std::uint64_t found = 0; walk.next < walk.end && found < most;) {
      ASSIGN_OR_RETURN(const BlockRun free,
                       volume_.block_bitmaps().next_free({walk.next, walk.end - walk.next}));
      if (free.count == 0) {
        walk.next = walk.end;
        break;
      }
      // Another one may be discarding some of it: nobody knows yet whether that goes well.
      const auto usable = volume_.order().unreleased().first_free(free.first, free.end());
      if (usable.first != free.first || usable.end != free.end()) walk.all = false;
      walk.next = usable.end;
      const std::uint64_t length = usable.end - usable.first;
      // The rest of a long run is wanted whatever its length.
      if (length == 0 || (usable.first >= walk.run_end && length < wish.minimum)) continue;
      walk.run_end = usable.end;
      const BlockRun run{usable.first, std::min(length, most - found)};
      if (!volume_.may_be_owned(run.first, run.count))
        return fail(volume_.corrupted(0, run.first, "the bitmap calls the volume's own blocks free"));
      if (const auto used = volume_.cache().first_cached(run.first, run.count))
        return fail(volume_.block_bitmaps().distrust(used->block, used->role.owner));
      runs.push_back(run);
      found += run.count;
      walk.next = run.end();
    }
    return runs;
  }

  // All that is free in memory is free on the medium.
  Result<void> settle() {
    RETURN_IF_ERROR(volume_.check_writable());
    const std::uint64_t now = volume_.freed_groups().now();
    RETURN_IF_ERROR(volume_.write_back());
    if (const auto done = volume_.flush_device(); !done)
      return fail(volume_.write_failed("the device could not be flushed", done.error()));
    if (volume_.has_lost_writes()) return fail(EIO);
    settled_ = now;
    return {};
  }

  Volume& volume_;
  std::uint64_t begin_ = 0, per_group_ = 1;  // blocks
  std::uint64_t settled_ = 0;                // what was freed until this time is free on the medium
  std::uint64_t discarded_ = 0;              // blocks
};

Result<std::uint64_t> Ext4FileSystem::trim(ByteRange range, std::uint64_t minimum) {
  return Trim(*volume_).run(range, minimum);
}

}  // namespace fuse4fs::ext4
