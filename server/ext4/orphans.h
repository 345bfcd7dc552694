// SPDX-License-Identifier: GPL-2.0-or-later
// What a crash left without a name is deleted, and truncates that it cut short are finished.
//
// For read-write mounts, once the journal and its fast commits are home and before the first request. One
// after the other, in bounded memory. What cannot be an orphan ends the chain, as in the kernel, and is left
// out of the file: told as corruption, with the policy of errors=; the mount goes on, and e2fsck finds the
// rest. On a volume with recorded errors nothing is deleted, and the chain is cut: also as in the kernel,
// which leaves that to e2fsck.
//
// Locking: before anybody else has the volume. Nothing is flushed: Volume::write_out().
// Errors: a damaged orphan file (EUCLEAN, before anything was changed), the device's.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "server/ext4/metadata.h"
#include "server/ext4/orphan_list.h"

namespace fuse4fs::ext4 {

struct OrphanSummary {
  std::uint64_t deleted = 0;
  std::uint64_t truncated = 0;
  std::uint64_t damaged = 0;     // entries that cannot be
  std::uint64_t left_alone = 0;  // 1 where recorded errors kept all of them from being looked at
};

// Called after each one; how often something is said of it is the caller's.
using OrphanProgress = std::function<void(const OrphanSummary&)>;

Outcome<OrphanSummary> process_orphans(Metadata& metadata, const OrphanProgress& progress = {});

}  // namespace fuse4fs::ext4
