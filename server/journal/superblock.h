// SPDX-License-Identifier: GPL-2.0-or-later
// The journal's superblock: judged when it is read, and written anew when its log has been replayed.
//
// Pure: bytes in, a verdict or bytes out. No locking. Errors: kCorrupted where the journal contradicts itself
// or the volume, EOPNOTSUPP where it is of a kind that is not known here; the words name the field. Facts:
// format.h. What is refused is what the kernel (6.18) and e2fsck refuse, and what makes no sense in a log
// that has to be replayed (a start outside of the records).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/journal/format.h"

namespace fuse4fs::journal {

class LogSource;

using Uuid = std::array<std::uint8_t, kUuidSize>;

// A judged superblock: every number is inside the log, every feature is known.
struct JournalSuperblock {
  std::uint32_t own_block = 0;  // where it lies in the log
  std::uint32_t version = 2;    // 1 or 2
  std::uint32_t block_size = 0;
  std::uint32_t max_length = 0;
  std::uint32_t first = 0;
  std::uint32_t sequence = 0;
  std::uint32_t start = 0;
  std::int32_t error = 0;  // not 0: the volume is to be marked as having errors (negative errno, as on disk)
  std::uint32_t compatible = 0;
  std::uint32_t incompatible = 0;
  std::uint32_t read_only_compatible = 0;
  Uuid uuid{};
  std::vector<Uuid> users;  // the volumes that an external journal belongs to

  // Records live in [first, log_end) and wrap there. Fast commits in [fast_commit_first, max_length), if at
  // all.
  std::uint32_t log_end = 0;
  std::uint32_t fast_commit_first = 0;

  std::uint32_t checksum_seed = 0;  // v2, v3: crc32c of the UUID

  // Accepted, but worth a line in the log.
  std::vector<std::string> notices;

  [[nodiscard]] bool needs_recovery() const { return start != 0; }
  [[nodiscard]] bool has(std::uint32_t incompatible_feature) const {
    return (incompatible & incompatible_feature) != 0;
  }
  // Checksum v1, and v2 or v3, exclude each other.
  [[nodiscard]] bool transaction_checksums() const { return (compatible & kFeatureChecksum) != 0; }
  [[nodiscard]] bool block_checksums() const { return has(kFeatureChecksumV2 | kFeatureChecksumV3); }
  // Bytes of one tag, without the UUID that may follow it.
  [[nodiscard]] std::size_t tag_size() const;
  // How far tags and revoke records may reach in their block.
  [[nodiscard]] std::size_t records_end() const { return block_size - (block_checksums() ? kTailSize : 0); }
  [[nodiscard]] std::uint32_t ring() const { return log_end - first; }
  // The log block `distance` (below 2^32) behind `block`, around the end.
  [[nodiscard]] std::uint32_t after(std::uint32_t block, std::uint32_t distance) const;
};

// What the volume says of its journal, so that both can be held against each other.
struct JournalExpectation {
  std::uint32_t block_size = 0;  // of the volume
  // An external journal: the UUID of the volume that is to be recovered.
  bool external = false;
  Uuid volume_uuid{};
};

// Reads the superblock of `log` and judges it.
Outcome<JournalSuperblock> read_superblock(LogSource& log, const JournalExpectation& expected);

// The same of bytes, `raw` of superblock_at::kSize; `blocks_there` and `own_block` as LogSource::blocks() and
// superblock().
Outcome<JournalSuperblock> judge_superblock(std::span<const std::byte> raw, std::uint32_t blocks_there,
                                            std::uint32_t own_block, const JournalExpectation& expected);

// Makes `raw`, the superblock's bytes as they were judged, those of an empty log whose next transaction is
// `next_sequence` (ReplayPlan::next_sequence): start 0, the checksum right. As the kernel does when a log is
// empty the feature fast_commit is taken away, so that older kernels mount the volume; the next fast commit
// sets it again.
void clear_superblock(std::span<std::byte> raw, const JournalSuperblock& judged, std::uint32_t next_sequence);

// The recorded error is taken away: it has moved to the volume's own superblock.
void clear_error(std::span<std::byte> raw, const JournalSuperblock& judged);

}  // namespace fuse4fs::journal
