// SPDX-License-Identifier: GPL-2.0-or-later
// One pass's way through a log: from JournalSuperblock::start on, block by block, around the end, never
// further than once around.
//
// Used by the three passes of recovery.h only. Locking: none. Errors: with words that name the log block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "server/journal/log_source.h"
#include "server/journal/records.h"
#include "server/journal/recovery.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal {

class LogWalk {
 public:
  // `blocks_all` is what the progress counts up to.
  LogWalk(LogSource& log, const JournalSuperblock& superblock, const RecoveryOptions& options,
          RecoveryPass pass, std::uint64_t blocks_all);

  // Reads the block at the present place and goes past it. Nothing where no record of transaction `sequence`
  // is there: the log ends. A failure where there is one and the walk has been all around: the log runs into
  // itself.
  Outcome<std::optional<BlockHeader>> next_record(std::uint32_t sequence);
  // The block that next_record() read, and its number.
  [[nodiscard]] std::span<const std::byte> record() const { return record_; }
  [[nodiscard]] std::uint32_t record_block() const { return record_block_; }

  // Goes past `count` blocks of data.
  void skip(std::uint32_t count);
  // The same, and reads them: `use(log_block, data)` for each, which returns Outcome<void>.
  template <class Use>
  Outcome<void> read(std::uint32_t count, Use use) {
    while (count > 0) {
      const std::uint32_t run = run_length(count);
      RETURN_IF_ERROR(read_run(run));
      for (std::uint32_t index = 0; index < run; ++index) {
        const auto data =
            std::span(data_).subspan(std::size_t{index} * superblock_.block_size, superblock_.block_size);
        RETURN_IF_ERROR(use(place_ + index, data));
      }
      skip(run);
      count -= run;
    }
    return {};
  }

  // The log block that comes next.
  [[nodiscard]] std::uint32_t place() const { return place_; }
  // Blocks gone past, at most once around and the data of one descriptor.
  [[nodiscard]] std::uint64_t walked() const { return walked_; }
  // Where `log_block` lies on the way, in blocks from the start: later copies of a block lie further on.
  [[nodiscard]] std::uint32_t distance(std::uint32_t log_block) const;

  // "journal block N (transaction T): WORDS", of the present record.
  [[nodiscard]] std::string about(std::string_view words) const;
  [[nodiscard]] std::string about(std::string_view words, std::uint32_t log_block) const;

 private:
  [[nodiscard]] std::uint32_t run_length(std::uint32_t count) const;
  Outcome<void> read_run(std::uint32_t run);

  LogSource& log_;
  const JournalSuperblock& superblock_;
  const RecoveryOptions& options_;
  const RecoveryPass pass_;
  const std::uint64_t blocks_all_;

  std::uint32_t place_;
  std::uint64_t walked_ = 0;
  std::uint32_t record_block_ = 0;
  std::uint32_t sequence_ = 0;
  std::vector<std::byte> record_;
  std::vector<std::byte> data_;
};

}  // namespace fuse4fs::journal
