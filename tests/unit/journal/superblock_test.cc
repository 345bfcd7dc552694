// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/superblock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "log_builder.h"
#include "server/journal/checksum.h"

namespace fuse4fs::journal::test {
namespace {

constexpr std::uint32_t kV3 = kFeatureRevoke | kFeatureChecksumV3;

TEST(Checksum, KnownAnswers) {
  const auto bytes = std::as_bytes(std::span("123456789", 9));
  EXPECT_EQ(~crc32c(~0U, bytes), 0xE3069283U);   // CRC-32C
  EXPECT_EQ(crc32_be(~0U, bytes), 0x0376E6E7U);  // CRC-32/MPEG-2: no inversion at the end
  // In pieces, aligned or not.
  for (std::size_t first = 0; first <= 9; ++first) {
    EXPECT_EQ(crc32c(crc32c(~0U, bytes.first(first)), bytes.subspan(first)), crc32c(~0U, bytes));
    EXPECT_EQ(crc32_be(crc32_be(~0U, bytes.first(first)), bytes.subspan(first)), crc32_be(~0U, bytes));
  }
}

TEST(Superblock, EveryFormIsRead) {
  for (const LogShape& shape : all_shapes()) {
    SCOPED_TRACE(shape.name);
    LogBuilder log(shape);
    const auto superblock = read_superblock(log, log.expectation());
    ASSERT_TRUE(superblock) << superblock.error().message;
    EXPECT_EQ(superblock->version, shape.version);
    EXPECT_EQ(superblock->max_length, shape.blocks);
    EXPECT_EQ(superblock->log_end, shape.blocks - shape.fast_commit_blocks);
    EXPECT_EQ(superblock->ring(), shape.blocks - shape.fast_commit_blocks - shape.first);
    EXPECT_EQ(superblock->sequence, shape.sequence);
    EXPECT_EQ(superblock->incompatible, shape.incompatible);
    EXPECT_TRUE(superblock->needs_recovery());
    EXPECT_THAT(superblock->notices, testing::IsEmpty());
    EXPECT_EQ(superblock->after(superblock->log_end - 1, 1), shape.first);
  }
}

struct Row {
  std::string_view name;
  std::size_t offset;
  std::uint32_t value;
  int error;  // 0: accepted
  std::string_view words = {};
  std::uint32_t incompatible = kV3;
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

class Field : public testing::TestWithParam<Row> {};
INSTANTIATE_TEST_SUITE_P(
    JournalForms, Field,
    testing::Values(
        Row{"Magic", 0, 0xC03B3999, EUCLEAN, "magic"},
        Row{"DescriptorInItsPlace", 4, 1, EUCLEAN, "a record of kind 1"},
        Row{"UnknownFormat", 4, 7, EOPNOTSUPP, "format (7)"},
        Row{"BlockSize", 0x0C, 4096, EUCLEAN, "blocks of 4096 bytes"},
        Row{"LongerThanWhatIsThere", 0x10, 1101, EUCLEAN, "has 1101 blocks; there are 1100"},
        Row{"ShorterThanWhatIsThere", 0x10, 1099, 0}, Row{"TooShort", 0x10, 1023, EUCLEAN, "less than 1024"},
        Row{"FirstIsItself", 0x14, 0, EUCLEAN, "start in block 0"},
        Row{"FirstBehindTheEnd", 0x14, 1100, EUCLEAN, "start in block 1100"},
        Row{"RingTooSmall", 0x14, 200, EUCLEAN, "start in block 200"},
        Row{"StartBehindTheEnd", 0x1C, 1100, EUCLEAN, "log starts in block 1100"},
        Row{"HugeStart", 0x1C, 0xFFFFFFFF, EUCLEAN, "log starts in block 4294967295"},
        Row{"StartBeforeTheFirst", 0x1C, 2, EUCLEAN, "log starts in block 2"},
        Row{"LastStart", 0x1C, 1099, 0}, Row{"RecordedError", 0x20, 0xFFFFFFFB, 0},
        Row{"UnknownCompatible", 0x24, 0x80, 0}, Row{"UnknownIncompatible", 0x28, 0x40, EOPNOTSUPP, "0x40"},
        Row{"UnknownReadOnly", 0x2C, 0x1, EOPNOTSUPP, "0x1"},
        Row{"ChecksumsTwoAndThree", 0x28, kFeatureChecksumV2 | kFeatureChecksumV3, EUCLEAN, "v2 and v3"},
        Row{"ChecksumsOneAndThree", 0x24, kFeatureChecksum, EUCLEAN, "v1 and v2 or v3"},
        Row{"ChecksumType", 0x50, 0x01000000, EOPNOTSUPP, "checksum type 1"},
        Row{"FastCommitsWithoutTheFeature", 0x54, 5000, 0},
        Row{"FastCommitsLargerThanTheLog", 0x54, 5000, EUCLEAN, "5000 of them", kV3 | kFeatureFastCommit},
        Row{"FastCommitsLeaveTooLittle", 0x54, 77, EUCLEAN, "77 of them", kV3 | kFeatureFastCommit},
        Row{"FastCommitsByDefault", 0x54, 0, EUCLEAN, "256 of them", kV3 | kFeatureFastCommit}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(Field, IsJudged) {
  const Row& row = GetParam();
  LogBuilder log(LogShape{
      .first = row.name == "StartBeforeTheFirst" ? 3U : 1U, .start = 5, .incompatible = row.incompatible});
  store_big_endian(log.superblock_bytes(), row.offset, row.value);
  log.seal_superblock();
  const auto superblock = read_superblock(log, log.expectation());
  ASSERT_EQ(superblock.has_value(), row.error == 0) << (superblock ? "" : superblock.error().message);
  if (row.error == 0) return;
  EXPECT_EQ(superblock.error().error, Errno(row.error));
  EXPECT_THAT(superblock.error().message, testing::HasSubstr("the journal's superblock"));
  EXPECT_THAT(superblock.error().message, testing::HasSubstr(std::string(row.words)));
}

TEST(Superblock, ChecksumIsOfAllItsBytes) {
  for (const std::size_t offset : {0x18U, 0x30U, 0xFCU, 0x100U, 0x3FFU}) {
    LogBuilder log(LogShape{.incompatible = kV3});
    log.superblock_bytes()[offset] ^= std::byte{1};
    const auto superblock = read_superblock(log, log.expectation());
    ASSERT_FALSE(superblock) << offset;
    EXPECT_EQ(superblock.error().error, Errno(EBADMSG));
  }
}

TEST(Superblock, OneUserOfAnExternalJournal) {
  LogBuilder log(LogShape{.own_block = 2, .first = 3, .start = 3, .users = 1});
  JournalExpectation expected{.block_size = 1024, .external = true, .volume_uuid = {}};
  EXPECT_THAT(read_superblock(log, expected)->notices, testing::IsEmpty());
  expected.volume_uuid[0] = 1;
  EXPECT_THAT(read_superblock(log, expected)->notices, testing::SizeIs(1));
  const std::pair<std::uint32_t, const char*> wrong[] = {{0, "no volume uses it"}, {2, "2 volumes use it"}};
  for (const auto& [users, words] : wrong) {
    store_big_endian<std::uint32_t>(log.superblock_bytes(), superblock_at::kUserCount, users);
    const auto judged = read_superblock(log, expected);
    ASSERT_FALSE(judged) << users;
    EXPECT_EQ(judged.error().error, Errno(EOPNOTSUPP));
    EXPECT_THAT(judged.error().message, testing::HasSubstr(words));
  }
  store_big_endian<std::uint32_t>(log.superblock_bytes(), superblock_at::kUserCount, 0xFFFFFFFF);
  EXPECT_EQ(read_superblock(log, expected).error().error, kCorrupted);
  // The kernel does not look at it in an inode.
  EXPECT_TRUE(read_superblock(log, log.expectation()));
  // But it does in version 1.
  LogBuilder old(LogShape{.version = 1, .own_block = 2, .first = 3, .start = 3});
  EXPECT_FALSE(read_superblock(old, expected));
}

TEST(Superblock, VersionOneHasNoFeatures) {
  LogBuilder log(LogShape{.version = 1});
  store_big_endian<std::uint32_t>(log.superblock_bytes(), superblock_at::kIncompatible, 0xFFFFFFFF);
  const auto superblock = read_superblock(log, log.expectation());
  ASSERT_TRUE(superblock) << superblock.error().message;
  EXPECT_EQ(superblock->incompatible, 0U);
}

}  // namespace
}  // namespace fuse4fs::journal::test
