// SPDX-License-Identifier: GPL-2.0-or-later
// One block of a log, taken apart: header, tags, revoke records, commit record, and their checksums.
//
// Pure, and safe on any bytes: nothing outside the block is looked at. `block` is always a whole block of the
// log. Facts: format.h. Locking: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "server/journal/format.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal {

struct BlockHeader {
  std::uint32_t kind = 0;  // a BlockKind, or something unknown
  std::uint32_t sequence = 0;

  [[nodiscard]] bool is(BlockKind one) const { return kind == static_cast<std::uint32_t>(one); }
};

// Nothing where the block does not start with the magic.
std::optional<BlockHeader> parse_header(std::span<const std::byte> block);

// One block that a descriptor announces; its copy lies in the log, behind the descriptor, in the order of the
// tags.
struct Tag {
  std::uint64_t home = 0;      // where it belongs in the volume
  std::uint32_t checksum = 0;  // v2: the lower 16 bits; v3: all
  std::uint32_t flags = 0;
};

struct TagList {
  std::vector<Tag> tags;
  bool leaves_block = false;  // the UUID behind the last of them would; nobody who means well writes that
};

// The tags of a descriptor, up to the one that says it is the last or to the end of the block, as the kernel
// counts them.
TagList parse_tags(std::span<const std::byte> block, const JournalSuperblock& superblock);

// The block numbers of a revoke block. Nothing where its byte count leaves the block.
std::optional<std::vector<std::uint64_t>> parse_revokes(std::span<const std::byte> block,
                                                        const JournalSuperblock& superblock);

struct CommitRecord {
  std::uint8_t checksum_type = 0;
  std::uint8_t checksum_size = 0;
  std::uint32_t checksum = 0;
  std::uint64_t seconds = 0;
  std::uint32_t nanoseconds = 0;
};
CommitRecord parse_commit(std::span<const std::byte> block);

// All true where the journal has no checksum v2 or v3.
bool tail_checksum_holds(std::span<const std::byte> block, const JournalSuperblock& superblock);
// kTornAfterRecord: right if all behind the record is taken as 0. The kernel accepts that: a block of several
// sectors may be written in part, and the record is all that counts.
enum class CommitChecksum { kHolds, kTornAfterRecord, kWrong };
CommitChecksum commit_checksum(std::span<const std::byte> block, const JournalSuperblock& superblock);
bool data_checksum_holds(std::span<const std::byte> data, const Tag& tag, std::uint32_t sequence,
                         const JournalSuperblock& superblock);

// What a log's copy of a block becomes at home: the magic comes back into an escaped one.
void unescape(std::span<std::byte> data);

}  // namespace fuse4fs::journal
