// SPDX-License-Identifier: GPL-2.0-or-later
// Prints a log: dump-journal [--all] IMAGE [JOURNAL-DEVICE]
//
// The superblock, each record from the log's start on with its tags or revokes, what recovery makes of it,
// and the tags of the fast commits. With --all: every block of the log that has a header, in the order of the
// log, stale ones too.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "base/quoted.h"
#include "base/zeros.h"
#include "image_journal.h"
#include "server/journal/records.h"
#include "server/journal/recovery.h"

namespace fuse4fs::journal::tools {
namespace {

struct Name {
  std::uint32_t bit;
  const char* name;
};

std::string names_of(std::uint32_t bits, std::initializer_list<Name> names) {
  std::string words;
  for (const Name& one : names) {
    if ((bits & one.bit) == 0) continue;
    words += fmt::format("{}{}", words.empty() ? "" : " ", one.name);
    bits &= ~one.bit;
  }
  if (bits != 0) words += fmt::format("{}{:#x}", words.empty() ? "" : " ", bits);
  return words.empty() ? "none" : words;
}

std::string uuid_words(const Uuid& uuid) {
  std::string words;
  for (std::size_t index = 0; index < uuid.size(); ++index)
    words += fmt::format("{}{:02x}", index == 4 || index == 6 || index == 8 || index == 10 ? "-" : "",
                         uuid[index]);
  return words;
}

void print_superblock(const JournalSuperblock& superblock, const LogSource& log) {
  fmt::print("superblock   log block {}, version {}\n", superblock.own_block, superblock.version);
  fmt::print("  blocks     {} of {} bytes ({} are there)\n", superblock.max_length, superblock.block_size,
             log.blocks());
  fmt::print("  records    blocks {} to {}\n", superblock.first, superblock.log_end - 1);
  if (superblock.has(kFeatureFastCommit))
    fmt::print("  fast       blocks {} to {}\n", superblock.fast_commit_first, superblock.max_length - 1);
  fmt::print("  start      {}{}\n", superblock.start,
             superblock.needs_recovery() ? "" : " (nothing to replay)");
  fmt::print("  sequence   {}\n", superblock.sequence);
  fmt::print("  error      {}\n", superblock.error);
  fmt::print("  compat     {}\n", names_of(superblock.compatible, {{kFeatureChecksum, "checksum_v1"}}));
  fmt::print("  incompat   {}\n", names_of(superblock.incompatible, {{kFeatureRevoke, "revoke"},
                                                                     {kFeature64Bit, "64bit"},
                                                                     {kFeatureAsyncCommit, "async_commit"},
                                                                     {kFeatureChecksumV2, "checksum_v2"},
                                                                     {kFeatureChecksumV3, "checksum_v3"},
                                                                     {kFeatureFastCommit, "fast_commit"}}));
  fmt::print("  uuid       {}\n", uuid_words(superblock.uuid));
  for (const Uuid& user : superblock.users) fmt::print("  user       {}\n", uuid_words(user));
  for (const std::string& notice : superblock.notices) fmt::print("  notice     {}\n", notice);
}

const char* wrong_unless(bool holds) { return holds ? "" : "  WRONG CHECKSUM"; }

void print_tags(LogSource& log, const JournalSuperblock& superblock, std::uint32_t log_block,
                std::uint32_t sequence, const TagList& list) {
  std::vector<std::byte> data(superblock.block_size);
  std::uint32_t place = log_block;
  for (const Tag& tag : list.tags) {
    place = superblock.after(place, 1);
    const bool readable = log.read(place, data).has_value();
    fmt::print(
        "  {:>8}   copy of {}{}{}\n", place, tag.home, (tag.flags & kTagEscaped) != 0 ? ", escaped" : "",
        readable ? wrong_unless(data_checksum_holds(data, tag, sequence, superblock)) : "  CANNOT BE READ");
  }
  if (list.leaves_block) fmt::print("  a tag leaves the descriptor\n");
}

// How many blocks of data follow.
std::uint32_t print_record(LogSource& log, const JournalSuperblock& superblock, std::uint32_t log_block,
                           const BlockHeader& header, std::span<const std::byte> block) {
  fmt::print("{:>8}  ", log_block);
  if (header.is(BlockKind::kDescriptor)) {
    const TagList list = parse_tags(block, superblock);
    fmt::print("transaction {}  descriptor of {} blocks{}\n", header.sequence, list.tags.size(),
               wrong_unless(tail_checksum_holds(block, superblock)));
    print_tags(log, superblock, log_block, header.sequence, list);
    return static_cast<std::uint32_t>(list.tags.size());
  }
  if (header.is(BlockKind::kRevoke)) {
    const auto homes = parse_revokes(block, superblock);
    fmt::print("transaction {}  revokes{}", header.sequence,
               wrong_unless(tail_checksum_holds(block, superblock)));
    if (!homes) {
      fmt::print("  MORE THAN FIT\n");
      return 0;
    }
    for (std::size_t index = 0; index < homes->size(); ++index)
      fmt::print("{}{}", index % 12 == 0 ? "\n             " : " ", (*homes)[index]);
    fmt::print("\n");
  } else if (header.is(BlockKind::kCommit)) {
    const CommitRecord commit = parse_commit(block);
    fmt::print("transaction {}  commit at {}.{:09}{}\n", header.sequence, commit.seconds, commit.nanoseconds,
               wrong_unless(commit_checksum(block, superblock) != CommitChecksum::kWrong));
  } else {
    fmt::print("transaction {}  unknown record of kind {}\n", header.sequence, header.kind);
  }
  return 0;
}

void print_log(LogSource& log, const JournalSuperblock& superblock) {
  std::vector<std::byte> block(superblock.block_size);
  std::uint32_t place = superblock.start;
  std::uint32_t sequence = superblock.sequence;
  for (std::uint64_t walked = 0; walked < superblock.ring();) {
    if (!log.read(place, block)) {
      fmt::print("{:>8}  cannot be read\n", place);
      return;
    }
    const auto header = parse_header(block);
    if (!header || header->sequence != sequence) {
      fmt::print("{:>8}  no record of transaction {}: the log ends\n", place, sequence);
      return;
    }
    const std::uint32_t passed = 1 + print_record(log, superblock, place, *header, block);
    if (header->is(BlockKind::kCommit)) ++sequence;
    place = superblock.after(place, passed);
    walked += passed;
  }
  fmt::print("{:>8}  the log runs into itself\n", place);
}

void print_all(LogSource& log, const JournalSuperblock& superblock) {
  std::vector<std::byte> block(superblock.block_size);
  for (std::uint32_t place = superblock.first; place < superblock.log_end; ++place) {
    if (!log.read(place, block)) {
      fmt::print("{:>8}  cannot be read\n", place);
    } else if (const auto header = parse_header(block)) {
      print_record(log, superblock, place, *header, block);
    }
  }
}

// A fast-commit block is a row of little-endian (tag, length) pairs, each with its value behind it.
// Facts: the kernel's Documentation/filesystems/ext4/journal.rst, "Fast commits".
void print_fast_block(std::uint32_t place, std::span<const std::byte> block) {
  static constexpr const char* kTags[] = {"",       "add range", "delete range", "create", "link",
                                          "unlink", "inode",     "padding",      "tail",   "head"};
  const auto little = [&](std::size_t offset, std::size_t size) {
    std::uint32_t value = 0;
    for (std::size_t index = size; index-- > 0;)
      value = (value << 8) | std::to_integer<std::uint32_t>(block[offset + index]);
    return value;
  };
  fmt::print("{:>8}  fast commits\n", place);
  for (std::size_t offset = 0; offset + 4 <= block.size();) {
    const std::uint32_t tag = little(offset, 2);
    const std::size_t length = little(offset + 2, 2);
    offset += 4;
    if (tag == 0 || tag >= std::size(kTags) || length > block.size() - offset) return;
    fmt::print("             {:<12} {:>4} bytes", kTags[tag], length);
    if (tag == 9 && length >= 8)
      fmt::print(", features {:#x}, transaction {}", little(offset, 4), little(offset + 4, 4));
    if (tag == 8 && length >= 8)
      fmt::print(", transaction {}, checksum {:#010x}", little(offset, 4), little(offset + 4, 4));
    if ((tag == 1 || tag == 2 || tag == 6) && length >= 4) fmt::print(", inode {}", little(offset, 4));
    if (tag >= 3 && tag <= 5 && length >= 8)
      fmt::print(", inode {} in {} as {}", little(offset + 4, 4), little(offset, 4),
                 quoted({reinterpret_cast<const char*>(&block[offset]) + 8, length - 8}));
    fmt::print("\n");
    offset += length;
  }
}

void print_fast_commits(LogSource& log, const JournalSuperblock& superblock) {
  std::vector<std::byte> block(superblock.block_size);
  for (std::uint32_t place = superblock.fast_commit_first; place < superblock.max_length; ++place) {
    if (log.read(place, block) && !is_zero(block)) print_fast_block(place, block);
  }
}

void print_verdict(const Outcome<ReplayPlan>& plan) {
  if (!plan) {
    fmt::print("recovery     refuses: {}\n", plan.error().message);
    return;
  }
  fmt::print("recovery     {} transactions, {} blocks to write from {} copies\n", plan->transactions(),
             plan->blocks.size(), plan->copies);
  fmt::print("  revokes    {} records hold {} copies back\n", plan->revoke_records, plan->revoked_copies);
  fmt::print("  next       transaction {}\n", plan->next_sequence);
  if (plan->fast_commit.count != 0)
    fmt::print("  fast       commits of transaction {}\n", plan->fast_commit.sequence);
  for (const std::string& notice : plan->notices) fmt::print("  notice     {}\n", notice);
}

Outcome<void> dump(const std::string& image, const std::string& device, bool everything) {
  ASSIGN_OR_RETURN(const auto journal, ImageJournal::open(image, device));
  LogSource& log = journal->log();
  ASSIGN_OR_RETURN(const JournalSuperblock superblock, read_superblock(log, journal->expectation()));
  print_superblock(superblock, log);
  if (everything) {
    print_all(log, superblock);
  } else if (superblock.needs_recovery()) {
    print_log(log, superblock);
  }
  if (superblock.has(kFeatureFastCommit)) print_fast_commits(log, superblock);
  print_verdict(
      plan_recovery(log, superblock,
                    {.object = [&](std::uint64_t home, HomeUse use) { return journal->object(home, use); },
                     .progress = {},
                     .limits = {}}));
  return {};
}

}  // namespace
}  // namespace fuse4fs::journal::tools

int main(int count, char** words) {
  std::vector<std::string> arguments(words + 1, words + count);
  const bool everything = std::erase(arguments, "--all") > 0;
  if (arguments.empty() || arguments.size() > 2 || arguments.front().starts_with('-')) {
    fmt::print(stderr, "usage: dump-journal [--all] IMAGE [JOURNAL-DEVICE]\n");
    return 2;
  }
  const auto done =
      fuse4fs::journal::tools::dump(arguments[0], arguments.size() > 1 ? arguments[1] : "", everything);
  if (done) return 0;
  fmt::print(stderr, "dump-journal: {}: {}\n", done.error().message, done.error().error.message());
  return 1;
}
