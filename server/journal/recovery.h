// SPDX-License-Identifier: GPL-2.0-or-later
// Reads a log and says what is to be written where: jbd2's recovery, without the writing.
//
// Three passes, as in the kernel's fs/jbd2/recovery.c, over the transactions from JournalSuperblock::start
// on:
//   scan    how far the log goes: each transaction must end in a commit block that carries its number
//   revoke  which blocks were freed later, so that older copies of them must not come back
//   replay  which copy of which block is the newest that is not revoked, and whether its checksum holds
// Nothing is written: the result is a plan, and whoever carries it out (server/ext4/journal_recovery.h) knows
// that the whole log was judged before.
//
// A plan is bounded in memory (RecoveryLimits) and in time: no pass goes around the log more than once.
// Errors: a Failure whose words name the log block. EBADMSG where a checksum is wrong (the kernel's
// EFSBADCRC), EUCLEAN where the log says what cannot be, E2BIG past a limit, ENOMEM, otherwise the device's.
// Locking: none; one thread. Elsewhere: what the fast-commit blocks mean is server/ext4/fast_commit_log.h;
// where the log lies is LogSource.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/journal/log_source.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal {

// One block to be copied: the log's block `log_block` to block `home` of the volume.
struct ReplayBlock {
  std::uint64_t home = 0;
  std::uint32_t log_block = 0;
  bool escaped = false;  // its first four bytes become kMagic: unescape() in records.h

  friend bool operator==(const ReplayBlock&, const ReplayBlock&) = default;
};

// Fast commits are written on top of the last full commit, to an area of their own at the log's end. They
// count only while they carry `sequence`. Not looked into here: blocks [first, first + count) are raw.
struct FastCommitArea {
  std::uint32_t first = 0;  // a log block
  std::uint32_t count = 0;  // 0: the journal has none, or nothing was to be recovered
  std::uint32_t sequence = 0;
};

struct ReplayPlan {
  std::vector<ReplayBlock> blocks;  // by home block, each of them once

  // Transactions [first_sequence, end_sequence) committed.
  std::uint32_t first_sequence = 0;
  std::uint32_t end_sequence = 0;
  // What the superblock is to carry afterwards (clear_superblock()), so that whatever is left in the log
  // cannot be taken for the next transaction.
  std::uint32_t next_sequence = 0;
  std::uint32_t end_block = 0;  // the log block behind the last commit block

  // For the log line.
  std::uint64_t copies = 0;          // tags in all
  std::uint64_t revoke_records = 0;  // in all
  std::uint64_t revoked_copies = 0;  // copies that a later revoke holds back

  FastCommitArea fast_commit;

  std::vector<std::string> notices;  // judged and passed over, but worth a line (a torn tail, stale blocks)

  [[nodiscard]] std::uint32_t transactions() const { return end_sequence - first_sequence; }
};

// What a log wants to do with a block of the volume.
enum class HomeUse { kReplay, kRevoke };

enum class RecoveryPass { kScan, kRevoke, kReplay };

struct RecoveryProgress {
  RecoveryPass pass = RecoveryPass::kScan;
  std::uint64_t blocks_done = 0;  // log blocks that the walk has come past in this pass
  std::uint64_t blocks_all = 0;   // scan: the whole log, since its end is not known; later: what scan found
};

struct RecoveryLimits {
  std::size_t blocks = std::size_t{4} << 20;   // different home blocks; 16 bytes of memory each
  std::size_t revokes = std::size_t{4} << 20;  // different revoked blocks; 16 bytes each
};

struct RecoveryOptions {
  // Words where the log may not do that with that block ("is outside of the volume", "is a block of the
  // journal"), nothing where it may. Called for every tag and every revoke record before anything is done.
  // Must be set.
  std::function<std::optional<std::string>(std::uint64_t home, HomeUse use)> object;
  // Called now and then, at most once a log block. May be empty.
  std::function<void(const RecoveryProgress&)> progress;
  RecoveryLimits limits;
};

// The plan for `log`, whose superblock was judged. An empty plan where it needs no recovery.
Outcome<ReplayPlan> plan_recovery(LogSource& log, const JournalSuperblock& superblock,
                                  const RecoveryOptions& options);

}  // namespace fuse4fs::journal
