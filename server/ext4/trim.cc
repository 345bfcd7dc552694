// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: FITRIM.
//
// What is discarded is lost for good, so a block must be free on the medium and not only in memory: until
// then a crash brings back the file that it was freed from. Whatever was freed since the last flush is
// therefore written first. Discards go out in pieces under the lock of their group: nobody can allocate the
// piece meanwhile.
#include <algorithm>
#include <optional>

#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

// Few devices can discard less than this. (The kernel knows each one's granularity; the server's descriptor
// does not tell.)
constexpr std::uint64_t kLeast = 4096;
constexpr std::uint64_t kAtOnce = std::uint64_t{256} << 20;  // bytes under one hold of the lock
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

  Result<void> trim_group(const Wish& wish, GroupNumber group) {
    const BlockRun blocks = volume_.block_bitmaps().blocks_of(group);
    std::uint64_t next = std::max(wish.first, blocks.first);
    const std::uint64_t end = std::min(wish.end, blocks.end());
    const bool all = next == blocks.first && end == blocks.end();
    std::uint64_t began = 0;
    std::uint64_t run_end = 0;  // up to here a run is known to be long enough
    for (int flushed = 0; next < end;) {
      let_others_in();
      auto lock = volume_.groups().lock(group);
      RETURN_IF_ERROR(volume_.check_writable());
      auto& groups = volume_.freed_groups();
      if (began == 0) {
        if (groups.is_trimmed(group, wish.minimum)) return {};
        began = groups.now();
      }
      if (groups.freed_since(group, settled_)) {
        lock.unlock();
        if (flushed++ == kPatience) return {};
        RETURN_IF_ERROR(settle());
        continue;
      }
      RETURN_IF_ERROR(discard_next(wish, next, end, run_end));
      if (next == end && all) groups.note_trimmed(group, began);
    }
    return {};
  }

  // With the group locked. Discards up to kAtOnce behind `next`, and moves it there.
  Result<void> discard_next(const Wish& wish, std::uint64_t& next, std::uint64_t end,
                            std::uint64_t& run_end) {
    const std::uint64_t most = std::max(kAtOnce >> volume_.block_bits(), std::uint64_t{1});
    std::uint64_t sent = 0;
    while (next < end && sent < most) {
      ASSIGN_OR_RETURN(const BlockRun run, volume_.block_bitmaps().next_free({next, end - next}));
      if (run.count == 0) {
        next = end;
        return {};
      }
      const std::uint64_t first = run.first;
      const std::uint64_t behind = run.end();
      next = behind;
      // The rest of a long run is wanted whatever its length.
      if (first >= run_end && behind - first < wish.minimum) continue;
      run_end = behind;
      const std::uint64_t count = std::min<std::uint64_t>(behind - first, most - sent);
      if (!volume_.may_be_owned(first, count))
        return fail(volume_.corrupted(0, first, "the bitmap calls the volume's own blocks free"));
      RETURN_IF_ERROR(volume_.device().discard(first << volume_.block_bits(), count << volume_.block_bits()));
      discarded_ += count;
      sent += count;
      next = first + count;
    }
    return {};
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
