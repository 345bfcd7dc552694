// SPDX-License-Identifier: GPL-2.0-or-later
// Which blocks were freed later? Each revoke record is judged: what the log may not touch it may not free
// either.
#include <fmt/format.h>

#include <algorithm>

#include "server/journal/log_walk.h"
#include "server/journal/passes.h"
#include "server/journal/records.h"

namespace fuse4fs::journal {

bool RevokeTable::add(std::uint64_t home, std::uint32_t sequence) {
  entries_.push_back({.home = home, .age = sequence - first_sequence_});
  // Repetitions are dropped now and then, not at each add().
  if (entries_.size() <= limit_ + (limit_ / 4)) return true;
  compact();
  return entries_.size() <= limit_;
}

bool RevokeTable::seal() {
  compact();
  entries_.shrink_to_fit();
  return entries_.size() <= limit_;
}

void RevokeTable::compact() {
  std::ranges::sort(entries_, [](const Entry& one, const Entry& other) {
    return one.home != other.home ? one.home < other.home : one.age > other.age;
  });
  const auto rest = std::ranges::unique(entries_, {}, &Entry::home);
  entries_.erase(rest.begin(), rest.end());
}

bool RevokeTable::covers(std::uint64_t home, std::uint32_t sequence) const {
  const auto found = std::ranges::lower_bound(entries_, home, {}, &Entry::home);
  return found != entries_.end() && found->home == home && found->age >= sequence - first_sequence_;
}

Outcome<Revokes> revoke_pass(LogSource& log, const JournalSuperblock& superblock,
                             const RecoveryOptions& options, const LogExtent& extent) {
  LogWalk walk(log, superblock, options, RecoveryPass::kRevoke, extent.blocks);
  const auto too_many = [&] {
    return fail(Errno(E2BIG),
                walk.about(fmt::format("the log revokes more than {} blocks", options.limits.revokes)));
  };
  Revokes revokes{.table = RevokeTable(superblock.sequence, options.limits.revokes)};
  for (std::uint32_t sequence = superblock.sequence; sequence != extent.end_sequence;) {
    ASSIGN_OR_RETURN(const auto header, walk.next_record(sequence));
    if (!header) return fail(Errno(EIO), walk.about("has changed while the log was read"));
    if (header->is(BlockKind::kCommit)) {
      ++sequence;
    } else if (header->is(BlockKind::kDescriptor)) {
      walk.skip(static_cast<std::uint32_t>(parse_tags(walk.record(), superblock).tags.size()));
    } else {
      const auto homes = parse_revokes(walk.record(), superblock);
      if (!homes) return fail(kCorrupted, walk.about("has more revoke records than fit into it"));
      for (const std::uint64_t home : *homes) {
        if (const auto objection = options.object(home, HomeUse::kRevoke))
          return fail(kCorrupted, walk.about(fmt::format("revokes block {}, which {}", home, *objection)));
        if (!revokes.table.add(home, sequence)) return too_many();
      }
      revokes.records += homes->size();
    }
  }
  if (!revokes.table.seal()) return too_many();
  return revokes;
}

}  // namespace fuse4fs::journal
