// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/log_walk.h"

#include <fmt/format.h>

#include <algorithm>

namespace fuse4fs::journal {
namespace {

// How much data is read at once.
constexpr std::size_t kRunBytes = std::size_t{256} << 10;

}  // namespace

LogWalk::LogWalk(LogSource& log, const JournalSuperblock& superblock, const RecoveryOptions& options,
                 RecoveryPass pass, std::uint64_t blocks_all)
    : log_(log),
      superblock_(superblock),
      options_(options),
      pass_(pass),
      blocks_all_(blocks_all),
      place_(superblock.start),
      record_(superblock.block_size) {}

Outcome<std::optional<BlockHeader>> LogWalk::next_record(std::uint32_t sequence) {
  record_block_ = place_;
  sequence_ = sequence;
  if (auto read = log_.read(place_, record_); !read) return fail(read.error(), about("cannot be read"));
  const auto header = parse_header(record_);
  if (!header || header->sequence != sequence) return std::nullopt;
  if (walked_ >= superblock_.ring())
    return fail(kCorrupted,
                about("carries the number of a transaction that is still to come: the log runs into itself"));
  skip(1);
  return header;
}

void LogWalk::skip(std::uint32_t count) {
  place_ = superblock_.after(place_, count);
  walked_ += count;
  if (options_.progress)
    options_.progress(
        {.pass = pass_, .blocks_done = std::min(walked_, blocks_all_), .blocks_all = blocks_all_});
}

std::uint32_t LogWalk::run_length(std::uint32_t count) const {
  const auto most = static_cast<std::uint32_t>(std::max<std::size_t>(kRunBytes / superblock_.block_size, 1));
  return std::min({count, superblock_.log_end - place_, most});
}

Outcome<void> LogWalk::read_run(std::uint32_t run) {
  data_.resize(std::size_t{run} * superblock_.block_size);
  if (auto read = log_.read(place_, data_); !read) return fail(read.error(), about("cannot be read", place_));
  return {};
}

std::uint32_t LogWalk::distance(std::uint32_t log_block) const {
  return log_block >= superblock_.start ? log_block - superblock_.start
                                        : log_block + superblock_.ring() - superblock_.start;
}

std::string LogWalk::about(std::string_view words) const { return about(words, record_block_); }

std::string LogWalk::about(std::string_view words, std::uint32_t log_block) const {
  return fmt::format("journal block {} (transaction {}): {}", log_block, sequence_, words);
}

}  // namespace fuse4fs::journal
