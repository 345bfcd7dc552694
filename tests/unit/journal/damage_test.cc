// SPDX-License-Identifier: GPL-2.0-or-later
// Torn, stale, damaged and hostile logs: what each is taken for. A row a case.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "log_builder.h"
#include "replayed.h"
#include "server/journal/recovery.h"

namespace fuse4fs::journal::test {
namespace {

using Role = Part::Role;

constexpr std::uint32_t kPlain = kFeatureRevoke;
constexpr std::uint32_t kV2 = kFeatureRevoke | kFeatureChecksumV2;
constexpr std::uint32_t kV3 = kFeatureRevoke | kFeatureChecksumV3 | kFeature64Bit;
constexpr std::uint32_t kV3Async = kV3 | kFeatureAsyncCommit;
constexpr std::uint32_t kAsync = kFeatureRevoke | kFeatureAsyncCommit;

// Transactions 10, 11 and 12, a second apart: copies of two blocks each, and from 11 on a revoke of one that
// only the transaction before it holds.
struct Case {
  std::string_view name;
  LogShape shape;
  std::function<void(LogBuilder&)> damage;
  // Either so many transactions, and so many notices...
  std::uint32_t transactions = 0;
  std::size_t notices = 0;
  // ... or an error, with these words.
  int error = 0;
  std::string_view words = {};
};

void flip(LogBuilder& log, std::uint32_t log_block, std::size_t offset = 500) {
  log.block(log_block)[offset] ^= std::byte{0x40};
}
void set_seconds(LogBuilder& log, std::uint32_t sequence, std::uint64_t seconds) {
  store_big_endian(log.block(log.find(Role::kCommit, sequence)), 48, seconds);
}
std::function<void(LogBuilder&)> flipped(Role role, std::uint32_t sequence, std::size_t offset = 500) {
  return [=](LogBuilder& log) { flip(log, log.find(role, sequence), offset); };
}
std::function<void(LogBuilder&)> wiped(Role role, std::uint32_t sequence) {
  return [=](LogBuilder& log) { std::ranges::fill(log.block(log.find(role, sequence)), std::byte{0}); };
}

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      // A cut in the middle of a commit: the transaction never was.
      {.name = "Whole", .shape = {.incompatible = kV3}, .damage = [](LogBuilder&) {}, .transactions = 3},
      {.name = "LastCommitMissing",
       .shape = {.incompatible = kV3},
       .damage = wiped(Role::kCommit, 12),
       .transactions = 2},
      {.name = "LastDescriptorMissing",
       .shape = {.incompatible = kV3},
       .damage = wiped(Role::kDescriptor, 12),
       .transactions = 2},
      {.name = "LastDescriptorTornAndNoCommit",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             flip(log, log.find(Role::kDescriptor, 12));
             std::ranges::fill(log.block(log.find(Role::kCommit, 12)), std::byte{0});
           },
       .transactions = 2},
      {.name = "NothingWhereTheLogStarts",
       .shape = {.incompatible = kV3},
       .damage = wiped(Role::kDescriptor, 10),
       .transactions = 0},
      // No one can know of the ones behind it.
      {.name = "MiddleCommitMissing",
       .shape = {.incompatible = kV3},
       .damage = wiped(Role::kCommit, 11),
       .transactions = 1},
      {.name = "UnknownKindOfRecord",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             store_big_endian<std::uint32_t>(log.block(log.find(Role::kCommit, 11)), 4, 9);
           },
       .transactions = 1},

      // Checksums v2 and v3 are wrong: the journal is damaged, wherever that is.
      {.name = "LastCommitWrong",
       .shape = {.incompatible = kV3},
       .damage = flipped(Role::kCommit, 12, 20),
       .error = EBADMSG,
       .words = "journal block 14 (transaction 12): has a wrong checksum"},
      {.name = "MiddleCommitWrong",
       .shape = {.incompatible = kV2},
       .damage = flipped(Role::kCommit, 11, 20),
       .error = EBADMSG,
       .words = "journal block 9 (transaction 11)"},
      {.name = "DescriptorWrong",
       .shape = {.incompatible = kV3},
       .damage = flipped(Role::kDescriptor, 11),
       .error = EBADMSG,
       .words = "journal block 6 (transaction 11)"},
      {.name = "DescriptorWrongV2",
       .shape = {.incompatible = kV2},
       .damage = flipped(Role::kDescriptor, 12),
       .error = EBADMSG,
       .words = "journal block 11 (transaction 12)"},
      {.name = "RevokeWrong",
       .shape = {.incompatible = kV3},
       .damage = flipped(Role::kRevoke, 11),
       .error = EBADMSG,
       .words = "journal block 5 (transaction 11)"},
      {.name = "DataWrong",
       .shape = {.incompatible = kV3},
       .damage = flipped(Role::kData, 12),
       .error = EBADMSG,
       .words = "journal block 12 (transaction 12): the copy of block 212 has a wrong checksum"},
      {.name = "DataWrongV2",
       .shape = {.incompatible = kV2},
       .damage = flipped(Role::kData, 10),
       .error = EBADMSG,
       .words = "journal block 2 (transaction 10): the copy of block 210"},
      {.name = "DataOfRevokedCopyWrong",
       .shape = {.incompatible = kV3},
       .damage = [](LogBuilder& log) { flip(log, log.find(Role::kData, 10, 1)); },
       .transactions = 3},

      // Several commits a second are nothing unusual.
      {.name = "DescriptorWrongInTheSameSecond",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             flip(log, log.find(Role::kDescriptor, 12));
             set_seconds(log, 12, 1011);
           },
       .error = EBADMSG,
       .words = "journal block 11 (transaction 12)"},
      {.name = "CommitWrongInTheSameSecond",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             flip(log, log.find(Role::kCommit, 12), 20);
             set_seconds(log, 12, 1011);
           },
       .error = EBADMSG,
       .words = "journal block 14 (transaction 12)"},

      // An older time: blocks of an older use of the log, which happen to carry the right number.
      {.name = "StaleCommit",
       .shape = {.incompatible = kV3},
       .damage = [](LogBuilder& log) { set_seconds(log, 12, 1000); },
       .transactions = 2,
       .notices = 1},
      {.name = "StaleDescriptor",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             flip(log, log.find(Role::kDescriptor, 12));
             set_seconds(log, 12, 1000);
           },
       .transactions = 2,
       .notices = 1},
      {.name = "StaleTransactionV1",
       .shape = {.compatible = kFeatureChecksum},
       .damage =
           [](LogBuilder& log) {
             flip(log, log.find(Role::kData, 12));
             set_seconds(log, 12, 1000);
           },
       .transactions = 2,
       .notices = 1},
      {.name = "CommitTornBehindItsRecord",
       .shape = {.incompatible = kV3},
       .damage = flipped(Role::kCommit, 11, 600),
       .transactions = 3,
       .notices = 1},

      // async_commit: the commit block may have come first.
      {.name = "AsyncLastCommitWrong",
       .shape = {.incompatible = kV3Async},
       .damage = flipped(Role::kCommit, 12, 20),
       .transactions = 2,
       .notices = 1},
      {.name = "AsyncMiddleCommitWrong",
       .shape = {.incompatible = kV3Async},
       .damage = flipped(Role::kCommit, 11, 20),
       .transactions = 1,
       .notices = 1},
      {.name = "AsyncV1LastDataWrong",
       .shape = {.compatible = kFeatureChecksum, .incompatible = kAsync},
       .damage = flipped(Role::kData, 12),
       .transactions = 2,
       .notices = 1},
      {.name = "AsyncV1MiddleDataWrong",
       .shape = {.compatible = kFeatureChecksum, .incompatible = kAsync},
       .damage = flipped(Role::kData, 11),
       .error = EBADMSG,
       .words = "journal block 14 (transaction 12): commits after"},

      // Checksum v1 covers descriptors and data, by the commit block.
      {.name = "V1DataWrong",
       .shape = {.compatible = kFeatureChecksum},
       .damage = flipped(Role::kData, 12),
       .error = EBADMSG,
       .words = "journal block 14 (transaction 12): its transaction's checksum"},
      {.name = "V1DescriptorWrong",
       .shape = {.compatible = kFeatureChecksum},
       .damage = flipped(Role::kDescriptor, 11),
       .error = EBADMSG,
       .words = "journal block 9 (transaction 11)"},
      {.name = "V1NotFilledIn",
       .shape = {.compatible = kFeatureChecksum},
       .damage =
           [](LogBuilder& log) {
             auto commit = log.block(log.find(Role::kCommit, 11));
             std::ranges::fill(commit.subspan(12, 8), std::byte{0});
             flip(log, log.find(Role::kData, 11));
           },
       .transactions = 3},
      // Without checksums nobody can tell.
      {.name = "PlainDataWrong",
       .shape = {.incompatible = kPlain},
       .damage = flipped(Role::kData, 11),
       .transactions = 3},

      // Hostile.
      {.name = "RevokesPastTheirBlock",
       .shape = {.incompatible = kPlain},
       .damage =
           [](LogBuilder& log) {
             store_big_endian<std::uint32_t>(log.block(log.find(Role::kRevoke, 11)), 12, 1025);
           },
       .error = EUCLEAN,
       .words = "journal block 5 (transaction 11): has more revoke records than fit"},
      {.name = "HugeRevokeCount",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             const auto log_block = log.find(Role::kRevoke, 12);
             store_big_endian<std::uint32_t>(log.block(log_block), 12, 0xFFFFFFFF);
             log.seal_tail(log_block);
           },
       .error = EUCLEAN,
       .words = "journal block 10 (transaction 12)"},
      {.name = "RevokesOverTheirChecksum",
       .shape = {.incompatible = kV3},
       .damage =
           [](LogBuilder& log) {
             const auto log_block = log.find(Role::kRevoke, 11);
             store_big_endian<std::uint32_t>(log.block(log_block), 12, 1021);
             log.seal_tail(log_block);
           },
       .error = EUCLEAN,
       .words = "journal block 5"},
      {.name = "RevokeCountBelowItsHeader",
       .shape = {.incompatible = kPlain},
       .damage =
           [](LogBuilder& log) {
             store_big_endian<std::uint32_t>(log.block(log.find(Role::kRevoke, 11)), 12, 3);
           },
       .transactions = 3},
  };
  return kCases;
}

// The block revoked in 11 is 310, and in 12 it is 311: each the second one of the transaction before.
LogBuilder three_transactions(const LogShape& shape) {
  LogBuilder log(shape);
  for (std::uint32_t number = 10; number < 13; ++number) {
    Transaction transaction{
        .copies = {{.home = 200 + number, .content = number}, {.home = 300 + number, .content = number}},
        .revokes = {},
        .seconds = 1000 + number};
    if (number > 10) transaction.revokes = {299 + number};
    log.add(transaction);
  }
  return log;
}

void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

class Damage : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(JournalForms, Damage, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Damage, IsJudged) {
  const Case& one = GetParam();
  LogBuilder log = three_transactions(one.shape);
  one.damage(log);
  const auto plan = plan_of(log);
  if (one.error != 0) {
    ASSERT_FALSE(plan) << "replays " << plan->transactions() << " transactions";
    EXPECT_EQ(plan.error().error, Errno(one.error)) << plan.error().message;
    EXPECT_THAT(plan.error().message, testing::HasSubstr(std::string(one.words)));
    return;
  }
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->transactions(), one.transactions);
  EXPECT_EQ(plan->next_sequence, 10 + one.transactions + 1);
  EXPECT_THAT(plan->notices, testing::SizeIs(one.notices)) << testing::PrintToString(plan->notices);
}

// A full list without a last tag: its end is the block's, and a UUID behind the last tag would leave it.
TEST(Hostile, TagThatLeavesItsBlock) {
  LogBuilder log(LogShape{.incompatible = kPlain, .mark_last_of_full = false});
  Transaction transaction;
  const std::size_t full = (1024 - 12 - 16) / 8;
  for (std::size_t number = 0; number < full; ++number)
    transaction.copies.push_back({.home = number, .content = 1});
  log.add(transaction);
  ASSERT_TRUE(plan_of(log));
  auto descriptor = log.block(log.find(Role::kDescriptor, 10));
  const std::size_t last = 12 + 16 + ((full - 1) * 8);
  store_big_endian<std::uint16_t>(descriptor, last + 6, 0);
  const auto plan = plan_of(log);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().error, kCorrupted);
  EXPECT_THAT(plan.error().message,
              testing::HasSubstr("journal block 1 (transaction 10): has a tag that leaves it"));
}

// Records of one transaction all around the log, and no commit: the walk would never end.
TEST(Hostile, LogThatRunsIntoItself) {
  for (const std::uint32_t kind : {1U, 5U}) {
    for (const std::uint32_t start : {1U, 700U}) {
      SCOPED_TRACE(testing::Message() << "kind " << kind << " from " << start);
      LogBuilder log(LogShape{.start = start, .incompatible = kPlain});
      for (std::uint32_t number = 1; number < log.blocks(); ++number) {
        auto block = log.block(number);
        store_big_endian(block, 0, kMagic);
        store_big_endian(block, 4, kind);
        store_big_endian<std::uint32_t>(block, 8, 10);
        store_big_endian<std::uint16_t>(block, 18, kTagLast | kTagSameUuid);  // a descriptor of one block
      }
      const auto plan = plan_of(log);
      ASSERT_FALSE(plan);
      EXPECT_EQ(plan.error().error, kCorrupted);
      EXPECT_THAT(plan.error().message, testing::HasSubstr("runs into itself"));
      for (const auto& [number, times] : log.reads()) EXPECT_LE(times, 2) << number;
    }
  }
}

// A transaction longer than the log: its commit block lies among its own data.
TEST(Hostile, TransactionLongerThanTheLog) {
  LogBuilder log(LogShape{.incompatible = kPlain});
  Transaction transaction;
  for (std::uint32_t number = 0; number < 1085; ++number)
    transaction.copies.push_back({.home = number, .content = 1});
  transaction.commit = false;
  log.add(transaction);
  ASSERT_TRUE(plan_of(log));
  // It would go on at the log's start, where its first descriptor is.
  for (std::uint32_t number = log.next_block(); number < log.blocks(); ++number) {
    store_big_endian(log.block(number), 0, kMagic);
    store_big_endian<std::uint32_t>(log.block(number), 4, 5);
    store_big_endian<std::uint32_t>(log.block(number), 8, 10);
  }
  const auto plan = plan_of(log);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, testing::HasSubstr("journal block 1 (transaction 10)"));
}

// What the volume objects to is refused before anything else is known of it, revoked or not.
TEST(Hostile, HomesThatTheLogMayNotTouch) {
  struct Row {
    std::uint64_t home;
    HomeUse use;
    std::string words;
  };
  for (const Row& row : {
           Row{212, HomeUse::kReplay,
               "journal block 11 (transaction 12): wants to replay block 212, which is mine"},
           Row{310, HomeUse::kReplay,
               "journal block 1 (transaction 10): wants to replay block 310, which is mine"},
           Row{310, HomeUse::kRevoke, "journal block 5 (transaction 11): revokes block 310, which is mine"},
       }) {
    SCOPED_TRACE(row.words);
    LogBuilder log = three_transactions({.incompatible = kV3});
    auto options = any_home();
    options.object = [&](std::uint64_t home, HomeUse use) -> std::optional<std::string> {
      if (home == row.home && use == row.use) return "is mine";
      return std::nullopt;
    };
    const auto plan = plan_of(log, options);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().error, kCorrupted);
    EXPECT_EQ(plan.error().message, row.words);
  }
}

class BrokenLog final : public LogSource {
 public:
  BrokenLog(LogBuilder& whole, std::uint32_t broken) : whole_(whole), broken_(broken) {}
  [[nodiscard]] std::uint32_t block_size() const override { return whole_.block_size(); }
  [[nodiscard]] std::uint32_t blocks() const override { return whole_.blocks(); }
  [[nodiscard]] std::uint32_t superblock() const override { return whole_.superblock(); }
  Result<void> read(std::uint32_t first, std::span<std::byte> into) override {
    if (broken_ >= first && broken_ - first < into.size() / block_size()) return fail(EIO);
    return whole_.read(first, into);
  }

 private:
  LogBuilder& whole_;
  std::uint32_t broken_;
};

TEST(BrokenDevice, IsSaidWhereItIsMet) {
  for (const std::uint32_t broken : {0U, 1U, 5U, 9U}) {
    LogBuilder whole = three_transactions({.incompatible = kV3});
    BrokenLog log(whole, broken);
    const auto superblock = read_superblock(log, whole.expectation());
    ASSERT_EQ(superblock.has_value(), broken != 0);
    const auto failure =
        broken == 0 ? superblock.error() : plan_recovery(log, *superblock, any_home()).error();
    EXPECT_EQ(failure.error, Errno(EIO));
    EXPECT_THAT(failure.message, testing::HasSubstr(std::to_string(broken)));
  }
}

}  // namespace
}  // namespace fuse4fs::journal::test
