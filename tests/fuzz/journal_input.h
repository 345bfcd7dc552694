// SPDX-License-Identifier: GPL-2.0-or-later
// What fuzz_journal does with one input, and the inputs that it starts from. Also run by unit_journal, so
// that the target cannot rot between two rounds of fuzzing.
//
// An input is a small log of blocks of 1 KiB inside of a large one that is otherwise zero: one byte that says
// how many of its blocks lie at the log's end (so that it wraps), one with InputBits, the superblock, and the
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "server/journal/log_source.h"
#include "server/journal/superblock.h"

namespace fuse4fs::journal::fuzz {

inline constexpr std::uint32_t kBlockSize = 1024;
inline constexpr std::uint32_t kBlocks = 1400;

enum InputBits : std::uint8_t {
  // Checksums are made right first: no mutation finds them, and most of the code lies behind them.
  kSealSuperblock = 1,
  kSealRecords = 2,
  kExternal = 4,
};

// Reads the log, and ends the program (std::abort) where the plan is not what a caller may rely on.
void try_journal(std::span<const std::byte> input);

struct Seed {
  std::string name;
  std::vector<std::byte> bytes;
};
// Logs of all forms, whole, wrapped, torn and damaged.
std::vector<Seed> journal_seeds();

// The first blocks of a log of blocks of 1 KiB that needs recovery, moved to the front of a small one.
std::vector<std::byte> as_input(LogSource& log, const JournalSuperblock& superblock);

}  // namespace fuse4fs::journal::fuzz
