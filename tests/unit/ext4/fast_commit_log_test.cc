// SPDX-License-Identifier: GPL-2.0-or-later
// The fast-commit area, byte by byte.
#include "server/ext4/fast_commit_log.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "tests/unit/ext4/fast_commit_area.h"

namespace fuse4fs::ext4 {
namespace {

using testing::HasSubstr;
using What = NameChange::What;

constexpr std::uint32_t kTid = 7;

FastCommitArea honest() {
  FastCommitArea area(1024);
  area.head(kTid);
  area.inode(12, std::string(160, 'i'));
  area.add_range(12, 3, 500, 2);
  area.name(FastCommitArea::kCreate, 2, 12, "a name");
  area.tail(kTid);
  area.delete_range(12, 4, 1);
  area.name(FastCommitArea::kUnlink, 2, 13, "gone");
  area.tail(kTid);
  return area;
}

Outcome<FastCommitLog> read(const FastCommitArea& area, std::uint32_t tid = kTid) {
  return read_fast_commits(area.bytes(), {.block_size = 1024, .inode_size = 256, .tid = tid});
}

TEST(FastCommitLog, ItsRecordsInTheirOrder) {
  const auto log = read(honest());
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_EQ(log->commits, 2U);
  ASSERT_EQ(log->records.size(), 7U);
  const auto& image = std::get<InodeImage>(log->records[0]);
  EXPECT_EQ(image.inode, 12U);
  EXPECT_EQ(image.bytes.size(), 160U);
  const auto& range = std::get<AddRange>(log->records[1]);
  EXPECT_EQ(range.logical, 3U);
  EXPECT_EQ(range.physical, 500U);
  EXPECT_EQ(range.count, 2U);
  EXPECT_EQ(range.kind, Mapping::Kind::kWritten);
  const auto& name = std::get<NameChange>(log->records[2]);
  EXPECT_EQ(name.what, What::kCreate);
  EXPECT_EQ(name.parent, 2U);
  EXPECT_EQ(name.inode, 12U);
  EXPECT_EQ(name.name, "a name");
  EXPECT_TRUE(std::holds_alternative<CommitEnd>(log->records[3]));
  EXPECT_EQ(std::get<DeleteRange>(log->records[4]).count, 1U);
  EXPECT_EQ(std::get<NameChange>(log->records[5]).what, What::kUnlink);
}

TEST(FastCommitLog, UnwrittenAndFarAway) {
  FastCommitArea area(1024);
  area.head(kTid);
  area.add_range(12, 0xffff0000, (std::uint64_t{0x1234} << 32) + 1, 0x8000 + 5);
  area.add_range(12, 0, 1, 0x8000);
  area.tail(kTid);
  const auto log = read(area);
  ASSERT_TRUE(log) << log.error().message;
  const auto& far = std::get<AddRange>(log->records.at(0));
  EXPECT_EQ(far.physical, (std::uint64_t{0x1234} << 32) + 1);
  EXPECT_EQ(far.count, 5U);
  EXPECT_EQ(far.kind, Mapping::Kind::kUnwritten);
  const auto& longest = std::get<AddRange>(log->records.at(1));
  EXPECT_EQ(longest.count, 0x8000U);
  EXPECT_EQ(longest.kind, Mapping::Kind::kWritten);
}

struct Case {
  const char* name;
  std::function<void(FastCommitArea&)> change;
  std::uint32_t commits = 0;  // that are left
  int error = 0;              // or this
  const char* words = "";
};

// The first commit is in block 0, the second in block 1.
TEST(FastCommitLog, WhatIsDamagedOrWasNotWrittenEndsItOrIsAnError) {
  const std::vector<Case> cases = {
      {"nothing", [](auto& area) { area.poke(0, std::string(2048, '\0')); }},
      {"no head", [](auto& area) { area.poke(0, "\x06"); }},
      {"an older transaction's", [](auto& area) { area.poke(8, "\x06"); }},
      {"unknown features", [](auto& area) { area.poke(4, "\x01"); }, 0, EOPNOTSUPP, "features"},
      {"a bit of the first", [](auto& area) { area.poke(100, "x"); }, 0, EUCLEAN, "checksum"},
      {"a bit of the second", [](auto& area) { area.poke(1024 + 10, "x"); }, 1},
      {"the second not written", [](auto& area) { area.poke(1024, std::string(1024, '\0')); }, 1},
      {"a length that leaves the block", [](auto& area) { area.poke(14, "\xff\xff"); }, 0, EUCLEAN,
       "block 0"},
      {"an inode that is too short", [](auto& area) { area.poke(14, std::string("\x20\0", 2)); }, 0, EUCLEAN},
      {"a kind that is none", [](auto& area) { area.poke(12, "\x0b"); }, 0, EUCLEAN, "kind 11"},
      {"a kind that is none, in the second", [](auto& area) { area.poke(1024, "\x0b"); }, 1},
      {"a tail of another transaction", [](auto& area) { area.poke(area.first_tail() + 4, "\x06"); }, 0,
       EUCLEAN, "transaction 6"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.name);
    auto area = honest();
    one.change(area);
    const auto log = read(area);
    if (one.error != 0) {
      ASSERT_FALSE(log);
      EXPECT_EQ(log.error().error.value(), one.error);
      EXPECT_THAT(log.error().message, HasSubstr(one.words));
      continue;
    }
    ASSERT_TRUE(log) << log.error().message;
    EXPECT_EQ(log->commits, one.commits);
    EXPECT_EQ(log->records.empty(), one.commits == 0);
    EXPECT_TRUE(log->records.empty() || std::holds_alternative<CommitEnd>(log->records.back()));
  }
}

// A power cut kept its later blocks from being written: an honest end.
TEST(FastCommitLog, AFirstCommitOfSeveralBlocksThatWasCutShort) {
  FastCommitArea area(1024);
  area.head(kTid);
  for (int i = 0; i < 20; ++i) area.inode(12, std::string(160, 'i'));
  area.tail(kTid);
  ASSERT_GT(area.bytes().size(), 3072U);
  const auto whole = read(area);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(whole->commits, 1U);
  EXPECT_EQ(whole->records.size(), 21U);
  FastCommitArea older(1024);
  older.name(FastCommitArea::kLink, 2, 12, "old");
  older.tail(kTid - 1);
  for (const auto& rest :
       {std::string(1024, '\0'), std::string(reinterpret_cast<const char*>(older.bytes().data()), 1024)}) {
    auto cut = area;
    cut.poke(1024, rest);
    const auto log = read(cut);
    ASSERT_TRUE(log) << log.error().message;
    EXPECT_TRUE(log->records.empty());
    EXPECT_THAT(log->end, HasSubstr("block 1"));
  }
}

TEST(FastCommitLog, MemoryIsBounded) {
  FastCommitArea area(4096);
  area.head(kTid);
  FastCommitScan scan({.block_size = 4096, .inode_size = 256, .tid = kTid});
  // Each block is a commit of some 200 records.
  bool refused = false;
  for (int i = 0; i < 20'000 && !refused; ++i) {
    FastCommitArea block(4096);
    if (i == 0) block.head(kTid);
    for (int j = 0; j < 200; ++j) block.add_range(12, 0, 1, 1);
    block.tail(kTid);
    const auto next = scan.add(block.bytes());
    if (next) {
      ASSERT_EQ(*next, FastCommitScan::Next::kMore);
      continue;
    }
    EXPECT_EQ(next.error().error, Errno(EFBIG));
    refused = true;
  }
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace fuse4fs::ext4
