// SPDX-License-Identifier: GPL-2.0-or-later
// Which copy of which block goes home? Each tag is judged, and each copy that is not revoked has its checksum
// looked at (v2, v3), also where a newer one follows: as in the kernel, one wrong copy is a damaged journal.
#include <fmt/format.h>

#include <algorithm>

#include "server/journal/log_walk.h"
#include "server/journal/passes.h"
#include "server/journal/records.h"

namespace fuse4fs::journal {
namespace {

class Replay {
 public:
  Replay(LogSource& log, const JournalSuperblock& superblock, const RecoveryOptions& options,
         const LogExtent& extent, const RevokeTable& revokes, ReplayPlan& plan)
      : superblock_(superblock),
        options_(options),
        extent_(extent),
        revokes_(revokes),
        plan_(plan),
        walk_(log, superblock, options, RecoveryPass::kReplay, extent.blocks),
        sequence_(superblock.sequence) {}

  Outcome<void> run() {
    while (sequence_ != extent_.end_sequence) {
      ASSIGN_OR_RETURN(const auto header, walk_.next_record(sequence_));
      if (!header) return fail(Errno(EIO), walk_.about("has changed while the log was read"));
      if (header->is(BlockKind::kCommit)) {
        ++sequence_;
      } else if (header->is(BlockKind::kDescriptor)) {
        RETURN_IF_ERROR(take_descriptor());
      }
    }
    keep_newest();
    if (plan_.blocks.size() > options_.limits.blocks) return too_many();
    return {};
  }

 private:
  Outcome<void> take_descriptor() {
    const auto list = parse_tags(walk_.record(), superblock_);
    if (list.leaves_block) return fail(kCorrupted, walk_.about("has a tag that leaves it"));
    const auto count = static_cast<std::uint32_t>(list.tags.size());
    for (std::uint32_t index = 0; index < count; ++index) {
      const Tag& tag = list.tags[index];
      if (const auto objection = options_.object(tag.home, HomeUse::kReplay))
        return fail(kCorrupted,
                    walk_.about(fmt::format("wants to replay block {}, which {}", tag.home, *objection)));
      ++plan_.copies;
      if (revokes_.covers(tag.home, sequence_)) {
        ++plan_.revoked_copies;
        continue;
      }
      plan_.blocks.push_back({.home = tag.home,
                              .log_block = superblock_.after(walk_.place(), index),
                              .escaped = (tag.flags & kTagEscaped) != 0});
    }
    RETURN_IF_ERROR(judge_copies(list.tags));
    if (plan_.blocks.size() <= options_.limits.blocks + (options_.limits.blocks / 4)) return {};
    keep_newest();
    return plan_.blocks.size() <= options_.limits.blocks ? Outcome<void>() : too_many();
  }

  // Goes past the data. Without checksums there is nothing to see in it.
  Outcome<void> judge_copies(const std::vector<Tag>& tags) {
    const auto count = static_cast<std::uint32_t>(tags.size());
    if (!superblock_.block_checksums()) {
      walk_.skip(count);
      return {};
    }
    std::size_t index = 0;
    return walk_.read(count, [&](std::uint32_t log_block, std::span<const std::byte> data) -> Outcome<void> {
      const Tag& tag = tags[index++];
      if (data_checksum_holds(data, tag, sequence_, superblock_) || revokes_.covers(tag.home, sequence_))
        return {};
      return fail(Errno(EBADMSG),
                  walk_.about(fmt::format("the copy of block {} has a wrong checksum", tag.home), log_block));
    });
  }

  void keep_newest() {
    std::ranges::sort(plan_.blocks, [&](const ReplayBlock& one, const ReplayBlock& other) {
      return one.home != other.home ? one.home < other.home
                                    : walk_.distance(one.log_block) > walk_.distance(other.log_block);
    });
    const auto rest = std::ranges::unique(plan_.blocks, {}, &ReplayBlock::home);
    plan_.blocks.erase(rest.begin(), rest.end());
  }

  std::unexpected<Failure> too_many() {
    return fail(Errno(E2BIG), walk_.about(fmt::format("the log holds more than {} different blocks",
                                                      options_.limits.blocks)));
  }

  const JournalSuperblock& superblock_;
  const RecoveryOptions& options_;
  const LogExtent& extent_;
  const RevokeTable& revokes_;
  ReplayPlan& plan_;
  LogWalk walk_;
  std::uint32_t sequence_;
};

}  // namespace

Outcome<void> replay_pass(LogSource& log, const JournalSuperblock& superblock, const RecoveryOptions& options,
                          const LogExtent& extent, const RevokeTable& revokes, ReplayPlan& plan) {
  return Replay(log, superblock, options, extent, revokes, plan).run();
}

}  // namespace fuse4fs::journal
