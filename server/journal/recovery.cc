// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/recovery.h"

#include <new>
#include <utility>

#include "server/journal/passes.h"

namespace fuse4fs::journal {
namespace {

Outcome<ReplayPlan> plan_within_memory(LogSource& log, const JournalSuperblock& superblock,
                                       const RecoveryOptions& options) {
  ReplayPlan plan;
  plan.first_sequence = superblock.sequence;
  plan.end_sequence = superblock.sequence;
  plan.next_sequence = superblock.sequence + 1;
  plan.end_block = superblock.start;
  if (!superblock.needs_recovery()) return plan;

  ASSIGN_OR_RETURN(LogExtent extent, scan_pass(log, superblock, options));
  ASSIGN_OR_RETURN(const Revokes revokes, revoke_pass(log, superblock, options, extent));
  RETURN_IF_ERROR(replay_pass(log, superblock, options, extent, revokes.table, plan));

  plan.revoke_records = revokes.records;
  plan.end_sequence = extent.end_sequence;
  // One is left out: whatever is written of transaction end_sequence, and not committed, stays dead.
  plan.next_sequence = extent.end_sequence + 1;
  plan.end_block = extent.end_block;
  plan.notices = std::move(extent.notices);
  if (superblock.has(kFeatureFastCommit))
    plan.fast_commit = {.first = superblock.fast_commit_first,
                        .count = superblock.max_length - superblock.fast_commit_first,
                        .sequence = extent.end_sequence};
  return plan;
}

}  // namespace

Outcome<ReplayPlan> plan_recovery(LogSource& log, const JournalSuperblock& superblock,
                                  const RecoveryOptions& options) {
  try {
    return plan_within_memory(log, superblock, options);
  } catch (const std::bad_alloc&) {
    // The limits are those of a large machine; the server's own may be lower.
    return fail(Errno(ENOMEM), "the journal's log is too long for the memory there is");
  }
}

}  // namespace fuse4fs::journal
