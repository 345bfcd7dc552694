// SPDX-License-Identifier: GPL-2.0-or-later
// Honest logs, in every form: what a plan says is what the transactions said.
#include "server/journal/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "log_builder.h"
#include "replayed.h"

namespace fuse4fs::journal::test {
namespace {

// The rule in one place, over the transactions as they were meant: the newest copy that no transaction from
// its own on revoked.
Contents by_the_rule(const LogShape& shape, const std::vector<Transaction>& transactions) {
  std::map<std::uint64_t, std::pair<std::size_t, std::uint32_t>> newest;
  std::map<std::uint64_t, std::size_t> revoked;
  for (std::size_t number = 0; number < transactions.size() && transactions[number].commit; ++number) {
    for (const std::uint64_t home : transactions[number].revokes) revoked[home] = number;
  }
  for (std::size_t number = 0; number < transactions.size() && transactions[number].commit; ++number) {
    for (const Copy& copy : transactions[number].copies) {
      const auto revoke = revoked.find(copy.home);
      if (revoke == revoked.end() || revoke->second < number) newest[copy.home] = {number, copy.content};
    }
  }
  Contents contents;
  for (const auto& [home, what] : newest)
    contents.emplace(home, content_block(shape.block_size, what.second));
  return contents;
}

#ifdef FUSE4FS_SANITIZED
constexpr int kRounds = 16;
#else
constexpr int kRounds = 60;
#endif

class Forms : public testing::TestWithParam<LogShape> {};

INSTANTIATE_TEST_SUITE_P(JournalForms, Forms, testing::ValuesIn(all_shapes()),
                         [](const auto& info) { return std::string(info.param.name); });

std::vector<Transaction> random_transactions(std::mt19937& random, const LogShape& shape) {
  const bool wide = (shape.incompatible & kFeature64Bit) != 0;
  const auto pick = [&](std::uint32_t below) {
    return std::uniform_int_distribution<std::uint32_t>(0, below - 1)(random);
  };
  const auto home = [&] {
    return std::uint64_t{pick(60)} + (wide && pick(2) == 0 ? std::uint64_t{5} << 32 : 0);
  };
  std::vector<Transaction> transactions;
  std::uint32_t blocks = 0;
  for (std::uint32_t number = 0, count = pick(12); number < count; ++number) {
    Transaction transaction{.copies = {}, .revokes = {}, .seconds = 1000 + number, .commit = true};
    // Sometimes more than fit into one descriptor.
    for (std::uint32_t copies = pick(pick(4) == 0 ? 150 : 12); copies > 0; --copies)
      transaction.copies.push_back(
          {.home = home(), .content = pick(5) == 0 ? kMagic : static_cast<std::uint32_t>(random())});
    if (shape.version > 1) {
      for (std::uint32_t revokes = pick(pick(8) == 0 ? 400 : 4); revokes > 0; --revokes)
        transaction.revokes.push_back(home());
    }
    transaction.commit = number + 1 < count || pick(3) != 0;
    blocks += (2 * static_cast<std::uint32_t>(transaction.copies.size())) + 6;
    if (blocks > 1000) break;  // as the kernel, which never lets a log run into its own start
    transactions.push_back(std::move(transaction));
  }
  return transactions;
}

// Starts anywhere, so that about every second log wraps.
TEST_P(Forms, AreReadAsTheyWereWritten) {
  std::mt19937 random(7);
  int wrapped = 0;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    LogShape shape = GetParam();
    const std::uint32_t fast = (shape.incompatible & kFeatureFastCommit) != 0 ? shape.fast_commit_blocks : 0;
    shape.start = std::uniform_int_distribution<std::uint32_t>(shape.first, shape.blocks - fast - 1)(random);
    shape.sequence = round % 4 == 0 ? 0xFFFFFFFDU : static_cast<std::uint32_t>(random());
    const auto transactions = random_transactions(random, shape);
    LogBuilder log(shape);
    for (const Transaction& transaction : transactions) log.add(transaction);
    wrapped += log.next_block() < shape.start ? 1 : 0;

    const auto plan = plan_of(log);
    ASSERT_TRUE(plan) << plan.error().message;
    const auto committed = static_cast<std::uint32_t>(
        std::ranges::count_if(transactions, [](const auto& one) { return one.commit; }));
    EXPECT_EQ(plan->transactions(), committed);
    EXPECT_EQ(plan->first_sequence, shape.sequence);
    EXPECT_EQ(plan->next_sequence, shape.sequence + committed + 1);
    if (committed == transactions.size()) {
      EXPECT_EQ(plan->end_block, log.next_block());
    }
    EXPECT_TRUE(std::ranges::is_sorted(plan->blocks, {}, &ReplayBlock::home));
    EXPECT_EQ(carry_out(log, *plan), by_the_rule(shape, transactions));
    EXPECT_THAT(plan->notices, testing::IsEmpty());
  }
  EXPECT_GT(wrapped, kRounds / 30);
}

TEST_P(Forms, CleanLogHasNothingToReplay) {
  LogShape shape = GetParam();
  shape.start = 0;
  LogBuilder log(shape);
  log.add({.copies = {{.home = 5, .content = 1}}});
  const auto plan = plan_of(log);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(plan->blocks, testing::IsEmpty());
  EXPECT_EQ(plan->next_sequence, shape.sequence + 1);
  EXPECT_EQ(plan->fast_commit.count, 0U);
}

// A replayed log, cleared, has nothing to replay, and what is left in it is not taken for the next
// transaction.
TEST_P(Forms, ClearedSuperblockIsAnEmptyLog) {
  LogBuilder log(GetParam());
  log.add({.copies = {{.home = 5, .content = 1}}});
  log.add({.copies = {{.home = 6, .content = 2}}, .commit = false});
  auto superblock = read_superblock(log, log.expectation());
  ASSERT_TRUE(superblock) << superblock.error().message;
  const auto plan = plan_recovery(log, *superblock, any_home());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->transactions(), 1U);

  store_big_endian<std::uint32_t>(log.superblock_bytes(), superblock_at::kError, 5);
  clear_error(log.superblock_bytes(), *superblock);
  clear_superblock(log.superblock_bytes(), *superblock, plan->next_sequence);
  const auto cleared = read_superblock(log, log.expectation());
  ASSERT_TRUE(cleared) << cleared.error().message;
  EXPECT_FALSE(cleared->needs_recovery());
  EXPECT_EQ(cleared->error, 0);
  EXPECT_EQ(cleared->sequence, GetParam().sequence + 2);
  EXPECT_EQ(cleared->incompatible, superblock->incompatible & ~kFeatureFastCommit);
}

TEST(Recovery, HandsOverTheFastCommitArea) {
  const auto shape = *std::ranges::find(all_shapes(), std::string_view("FastCommit"), &LogShape::name);
  LogBuilder log(shape);
  log.add({.copies = {{.home = 5, .content = 1}}});
  const auto plan = plan_of(log);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->fast_commit.first, 1301U);
  EXPECT_EQ(plan->fast_commit.count, 99U);
  EXPECT_EQ(plan->fast_commit.sequence, shape.sequence + 1);
}

// No more than its share of time: three readings of records, one of data (v1: one as well, of the crc32).
TEST_P(Forms, ReadsEachBlockAFewTimes) {
  LogBuilder log(GetParam());
  for (std::uint32_t number = 0; number < 5; ++number)
    log.add({.copies = std::vector<Copy>(90, {.home = number, .content = number}), .revokes = {99}});
  ASSERT_TRUE(plan_of(log));
  for (const Part& part : log.parts()) {
    const auto read = log.reads().find(part.log_block);
    const int times = read == log.reads().end() ? 0 : read->second;
    EXPECT_LE(times, part.role == Part::Role::kData ? 1 : 3) << part.log_block;
  }
}

TEST(Recovery, TellsHowFarItIs) {
  LogBuilder log(LogShape{.incompatible = kFeatureRevoke | kFeatureChecksumV3});
  for (std::uint32_t number = 0; number < 20; ++number)
    log.add({.copies = std::vector<Copy>(30, {.home = number, .content = number})});
  std::map<RecoveryPass, std::uint64_t> reached;
  std::uint64_t all = 0;
  auto options = any_home();
  options.progress = [&](const RecoveryProgress& progress) {
    EXPECT_GE(progress.blocks_done, reached[progress.pass]);
    EXPECT_LE(progress.blocks_done, progress.blocks_all);
    reached[progress.pass] = progress.blocks_done;
    if (progress.pass != RecoveryPass::kScan) all = progress.blocks_all;
  };
  ASSERT_TRUE(plan_of(log, options));
  EXPECT_EQ(all, log.next_block() - 1U);
  EXPECT_EQ(reached,
            (std::map<RecoveryPass, std::uint64_t>{
                {RecoveryPass::kScan, all}, {RecoveryPass::kRevoke, all}, {RecoveryPass::kReplay, all}}));
}

// The limits count different blocks: a log that writes the same few again and again stays within them.
TEST(Recovery, BoundsItsMemory) {
  struct Row {
    std::string name;
    std::uint32_t blocks;
    std::uint32_t revokes;
    std::uint32_t times;
    bool fits;
  };
  for (const Row& row :
       {Row{"at both limits", 40, 30, 4, true}, Row{"one block more", 41, 30, 4, false},
        Row{"one block more, once", 41, 30, 1, false}, Row{"one revoke more", 40, 31, 4, false},
        Row{"one revoke more, once", 40, 31, 1, false}}) {
    SCOPED_TRACE(row.name);
    LogBuilder log(LogShape{.incompatible = kFeatureRevoke | kFeatureChecksumV3});
    for (std::uint32_t number = 0; number < row.times; ++number) {
      Transaction transaction;
      for (std::uint32_t home = 0; home < row.blocks; ++home)
        transaction.copies.push_back({.home = home, .content = number});
      for (std::uint32_t home = 0; home < row.revokes; ++home) transaction.revokes.push_back(1000 + home);
      log.add(transaction);
    }
    auto options = any_home();
    options.limits = {.blocks = 40, .revokes = 30};
    const auto plan = plan_of(log, options);
    ASSERT_EQ(plan.has_value(), row.fits);
    if (row.fits) {
      EXPECT_EQ(plan->blocks.size(), row.blocks);
      EXPECT_EQ(plan->copies, row.times * row.blocks);
      EXPECT_EQ(plan->revoke_records, row.times * row.revokes);
    } else {
      EXPECT_EQ(plan.error().error, Errno(E2BIG));
      EXPECT_THAT(plan.error().message, testing::HasSubstr("journal block"));
    }
  }
}

}  // namespace
}  // namespace fuse4fs::journal::test
