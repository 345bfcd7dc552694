// SPDX-License-Identifier: GPL-2.0-or-later
// How far does the log go? As the kernel (6.18) decides it:
//
//  - A transaction counts when its commit block is where the walk arrives after its descriptors, data and
//  revokes. The
//    first block that is no record of the expected transaction ends the log: what was written of it is
//    forgotten.
//  - A wrong checksum (of a descriptor, a revoke block, a commit block or, v1, of the transaction) waits for
//  the commit
//    block. If its time is before that of the last good one, these blocks are left from an older use of the
//    log and the log ends before them. Otherwise the journal is damaged, and nothing of it is replayed here.
//  - With async_commit the commit block may have reached the device before what it commits. So a wrong one
//  ends the log
//    and does not damage it; with v1, where the commit block vouches for the data, only if no further one
//    follows.
#include <fmt/format.h>

#include <optional>

#include "server/journal/checksum.h"
#include "server/journal/log_walk.h"
#include "server/journal/passes.h"
#include "server/journal/records.h"

namespace fuse4fs::journal {
namespace {

constexpr std::uint32_t kNoCrc = ~std::uint32_t{0};

class Scan {
 public:
  Scan(LogSource& log, const JournalSuperblock& superblock, const RecoveryOptions& options)
      : superblock_(superblock),
        walk_(log, superblock, options, RecoveryPass::kScan, superblock.ring()),
        sequence_(superblock.sequence),
        end_{.end_sequence = sequence_, .end_block = superblock.start, .blocks = 0, .notices = {}} {}

  Outcome<LogExtent> run() {
    for (;;) {
      ASSIGN_OR_RETURN(const auto header, walk_.next_record(sequence_));
      if (!header) break;
      if (header->is(BlockKind::kDescriptor)) {
        RETURN_IF_ERROR(take_descriptor());
      } else if (header->is(BlockKind::kRevoke)) {
        judge_tail();
      } else if (header->is(BlockKind::kCommit)) {
        ASSIGN_OR_RETURN(const Verdict verdict, take_commit());
        if (verdict == Verdict::kLogEnds) break;
      } else {
        break;  // nothing that belongs here
      }
    }
    return std::move(end_);
  }

 private:
  enum class Verdict { kGoOn, kLogEnds };

  void judge_tail() {
    if (!wrong_block_ && !tail_checksum_holds(walk_.record(), superblock_))
      wrong_block_ = walk_.record_block();
  }

  Outcome<void> take_descriptor() {
    judge_tail();
    const auto list = parse_tags(walk_.record(), superblock_);
    const auto count = static_cast<std::uint32_t>(list.tags.size());
    if (!superblock_.transaction_checksums() || failed_) {
      walk_.skip(count);
      return {};
    }
    crc_ = crc32_be(crc_, walk_.record());
    return walk_.read(count, [&](std::uint32_t, std::span<const std::byte> data) -> Outcome<void> {
      crc_ = crc32_be(crc_, data);
      return {};
    });
  }

  Outcome<Verdict> take_commit() {
    const CommitRecord commit = parse_commit(walk_.record());
    if (wrong_block_) {
      if (commit.seconds >= last_seconds_) return damaged("has a wrong checksum", *wrong_block_);
      return stale();
    }
    if (superblock_.transaction_checksums()) {
      if (failed_)
        return damaged("commits after a transaction whose checksum is wrong", walk_.record_block());
      if (!transaction_checksum_holds(commit))
        return wrong_commit(commit, "its transaction's checksum is wrong");
      crc_ = kNoCrc;
    } else {
      switch (commit_checksum(walk_.record(), superblock_)) {
        case CommitChecksum::kHolds:
          break;
        case CommitChecksum::kTornAfterRecord:
          end_.notices.push_back(walk_.about("was written in part; the record in it is whole"));
          break;
        case CommitChecksum::kWrong:
          return wrong_commit(commit, "has a wrong checksum");
      }
    }
    committed(commit);
    return Verdict::kGoOn;
  }

  void committed(const CommitRecord& commit) {
    last_seconds_ = commit.seconds;
    ++sequence_;
    if (failed_) return;
    end_.end_sequence = sequence_;
    end_.end_block = walk_.place();
    end_.blocks = walk_.walked();
  }

  // v1. A commit block without any checksum is one of a transaction that was written before the feature was
  // on.
  [[nodiscard]] bool transaction_checksum_holds(const CommitRecord& commit) const {
    const bool filled_in = commit.checksum_type == kChecksumTypeCrc32 && commit.checksum_size == sizeof(crc_);
    const bool empty = commit.checksum_type == 0 && commit.checksum_size == 0 && commit.checksum == 0;
    return (filled_in && commit.checksum == crc_) || empty;
  }

  Outcome<Verdict> wrong_commit(const CommitRecord& commit, std::string_view words) {
    if (commit.seconds < last_seconds_) return stale();
    if (!superblock_.has(kFeatureAsyncCommit)) return damaged(words, walk_.record_block());
    if (!failed_)
      end_.notices.push_back(
          walk_.about(fmt::format("{}: an interrupted commit, the log ends before it", words)));
    failed_ = true;
    committed(commit);
    return Verdict::kGoOn;
  }

  Outcome<Verdict> stale() {
    end_.notices.push_back(walk_.about("left from an older use of the log, which ends before it"));
    return Verdict::kLogEnds;
  }

  std::unexpected<Failure> damaged(std::string_view words, std::uint32_t log_block) {
    return fail(Errno(EBADMSG), walk_.about(words, log_block));
  }

  const JournalSuperblock& superblock_;
  LogWalk walk_;
  std::uint32_t sequence_;
  LogExtent end_;
  std::uint32_t crc_ = kNoCrc;
  std::uint64_t last_seconds_ = 0;
  std::optional<std::uint32_t> wrong_block_;  // of the present transaction: a descriptor or revoke block
  bool failed_ = false;                       // async_commit: an earlier commit block is wrong
};

}  // namespace

Outcome<LogExtent> scan_pass(LogSource& log, const JournalSuperblock& superblock,
                             const RecoveryOptions& options) {
  return Scan(log, superblock, options).run();
}

}  // namespace fuse4fs::journal
