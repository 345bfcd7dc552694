// SPDX-License-Identifier: GPL-2.0-or-later
// The seeds of fuzz_journal, and the same with a few bytes changed: a fuzzer's first minute, the same each
// time.
#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/journal_input.h"

namespace fuse4fs::journal::fuzz {
namespace {

TEST(FuzzSeeds, AreJudged) {
  std::mt19937 random(3);
  const auto pick = [&](std::size_t below) {
    return std::uniform_int_distribution<std::size_t>(0, below - 1)(random);
  };
  for (Seed& seed : journal_seeds()) {
    SCOPED_TRACE(seed.name);
    try_journal(seed.bytes);
    for (int round = 0; round < 4; ++round) {
      auto bytes = seed.bytes;
      bytes[1] |= std::byte{kSealSuperblock | kSealRecords};
      // At the start of the superblock or of a record, where the fields are.
      for (std::size_t changes = 1 + pick(4); changes > 0; --changes)
        bytes[2 + (pick(bytes.size() / kBlockSize) * kBlockSize) + pick(64)] ^=
            static_cast<std::byte>(1 << pick(8));
      try_journal(bytes);
    }
  }
}

}  // namespace
}  // namespace fuse4fs::journal::fuzz
