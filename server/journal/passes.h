// SPDX-License-Identifier: GPL-2.0-or-later
// The three passes of recovery.h, one function each. Internal to server/journal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/journal/log_source.h"
#include "server/journal/recovery.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal {

struct LogExtent {
  std::uint32_t end_sequence = 0;  // the first transaction that did not commit
  std::uint32_t end_block = 0;     // behind the last commit block
  std::uint64_t blocks = 0;        // from the start to there
  std::vector<std::string> notices;
};

// Home blocks that were revoked, each with the newest transaction that did so: copies from that one and from
// older ones must not be replayed.
class RevokeTable {
 public:
  RevokeTable(std::uint32_t first_sequence, std::size_t limit)
      : first_sequence_(first_sequence), limit_(limit) {}

  // False past the limit.
  bool add(std::uint64_t home, std::uint32_t sequence);
  // No add() after this; before covers(). False past the limit.
  bool seal();
  [[nodiscard]] bool covers(std::uint64_t home, std::uint32_t sequence) const;

 private:
  struct Entry {
    std::uint64_t home;
    std::uint32_t age;  // transactions after the first of the log
  };
  void compact();

  std::uint32_t first_sequence_;
  std::size_t limit_;
  std::vector<Entry> entries_;
};

struct Revokes {
  RevokeTable table;
  std::uint64_t records = 0;
};

Outcome<LogExtent> scan_pass(LogSource& log, const JournalSuperblock& superblock,
                             const RecoveryOptions& options);
Outcome<Revokes> revoke_pass(LogSource& log, const JournalSuperblock& superblock,
                             const RecoveryOptions& options, const LogExtent& extent);
// Fills ReplayPlan::blocks, copies and revoked_copies.
Outcome<void> replay_pass(LogSource& log, const JournalSuperblock& superblock, const RecoveryOptions& options,
                          const LogExtent& extent, const RevokeTable& revokes, ReplayPlan& plan);

}  // namespace fuse4fs::journal
