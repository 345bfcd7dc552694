// SPDX-License-Identifier: GPL-2.0-or-later
// Carries a plan out in memory: which block of the volume holds what afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "log_builder.h"
#include "server/journal/records.h"
#include "server/journal/recovery.h"

namespace fuse4fs::journal::test {

using Contents = std::map<std::uint64_t, std::vector<std::byte>>;

inline Contents carry_out(LogSource& log, const ReplayPlan& plan) {
  Contents contents;
  for (const ReplayBlock& block : plan.blocks) {
    std::vector<std::byte> data(log.block_size());
    if (!log.read(block.log_block, data)) continue;  // is then missing from what is compared
    if (block.escaped) unescape(data);
    contents.emplace(block.home, std::move(data));
  }
  return contents;
}

// Everything is allowed.
inline RecoveryOptions any_home() {
  return {.object = [](std::uint64_t, HomeUse) { return std::optional<std::string>(); },
          .progress = {},
          .limits = {}};
}

inline Outcome<ReplayPlan> plan_of(LogBuilder& log, const RecoveryOptions& options = any_home()) {
  ASSIGN_OR_RETURN(const JournalSuperblock superblock, read_superblock(log, log.expectation()));
  return plan_recovery(log, superblock, options);
}

}  // namespace fuse4fs::journal::test
