// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/mapping_cache.h"

#include <gtest/gtest.h>

namespace fuse4fs::iomap_model {
namespace {

namespace abi = iomap_abi;
using Fork = MappingCache::Fork;
using WholeDrop = MappingCache::WholeDrop;

constexpr std::uint64_t kBlock = 4096;

abi::Mapping blocks(std::uint64_t first, std::uint64_t count, std::uint64_t place,
                    abi::MappingType type = abi::kMapped) {
  return {.offset = first * kBlock,
          .length = count * kBlock,
          .address = place * kBlock,
          .type = type,
          .flags = 0,
          .device = 1};
}
MappingCache cache(WholeDrop whole_drop = WholeDrop::kCounts) { return {262144, kBlock, whole_drop}; }

TEST(MappingCacheTest, FindsWhatCoversThePositionTrimmedToTheRequest) {
  auto cached = cache();
  EXPECT_FALSE(cached.exists());
  cached.upsert(Fork::kRead, blocks(2, 8, 100));
  EXPECT_TRUE(cached.exists());
  const auto hit = cached.find(4 * kBlock + 10, kBlock);
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->read.offset, 4 * kBlock);
  EXPECT_EQ(hit->read.length, 2 * kBlock);
  EXPECT_EQ(hit->read.address, 102 * kBlock);
  EXPECT_EQ(hit->write.type, abi::kPureOverwrite);
  EXPECT_FALSE(cached.find(kBlock, kBlock)) << "in front of it";
  EXPECT_FALSE(cached.find(10 * kBlock, kBlock));
}

TEST(MappingCacheTest, MergesWhatGoesOn) {
  auto cached = cache();
  cached.upsert(Fork::kRead, blocks(0, 2, 100));
  cached.upsert(Fork::kRead, blocks(4, 2, 104));
  EXPECT_EQ(cached.mappings(Fork::kRead).size(), 2U);
  cached.upsert(Fork::kRead, blocks(2, 2, 102));
  ASSERT_EQ(cached.mappings(Fork::kRead).size(), 1U);
  EXPECT_EQ(cached.mappings(Fork::kRead)[0].length, 6 * kBlock);
  cached.upsert(Fork::kRead, blocks(6, 1, 106, abi::kUnwritten));
  EXPECT_EQ(cached.mappings(Fork::kRead).size(), 2U) << "another state";
  cached.upsert(Fork::kRead, blocks(7, 1, 300, abi::kUnwritten));
  EXPECT_EQ(cached.mappings(Fork::kRead).size(), 3U) << "another place";
}

TEST(MappingCacheTest, ReplacesWhatAnUpsertOverlaps) {
  auto cached = cache();
  cached.upsert(Fork::kRead, blocks(0, 10, 100));
  cached.upsert(Fork::kRead, blocks(3, 2, 500));
  const auto left = cached.mappings(Fork::kRead);
  ASSERT_EQ(left.size(), 3U);
  EXPECT_EQ(left[0].length, 3 * kBlock);
  EXPECT_EQ(left[1].address, 500 * kBlock);
  EXPECT_EQ(left[2].offset, 5 * kBlock);
  EXPECT_EQ(left[2].address, 105 * kBlock);
}

TEST(MappingCacheTest, InvalidatesAPart) {
  auto cached = cache();
  cached.upsert(Fork::kRead, blocks(0, 10, 100));
  cached.invalidate({.offset = 2 * kBlock, .length = 3 * kBlock});
  EXPECT_TRUE(cached.find(kBlock, 1));
  EXPECT_FALSE(cached.find(2 * kBlock, 1));
  EXPECT_FALSE(cached.find(4 * kBlock, 1));
  EXPECT_EQ(cached.find(5 * kBlock, 1)->read.address, 105 * kBlock);
  cached.invalidate({.offset = 0, .length = 0});
  EXPECT_TRUE(cached.find(0, 1)) << "length 0 is nothing";
  cached.invalidate({.offset = kBlock, .length = abi::kToEndOfFile});
  EXPECT_EQ(cached.mappings(Fork::kRead).size(), 1U);
}

TEST(MappingCacheTest, EachChangeChangesTheSequence) {
  auto cached = cache();
  EXPECT_EQ(cached.sequence(), 1U);
  cached.upsert(Fork::kRead, blocks(0, 4, 100));
  const auto cookie = cached.find(0, 1)->cookie;
  EXPECT_EQ(cookie, cached.sequence());
  cached.invalidate({.offset = 8 * kBlock, .length = kBlock});
  EXPECT_EQ(cookie, cached.sequence()) << "nothing was there";
  cached.invalidate({.offset = 0, .length = kBlock});
  EXPECT_NE(cookie, cached.sequence());
}

TEST(MappingCacheTest, TheDropOfAWholeForkMayGoUnnoticed) {
  for (const auto whole_drop : {WholeDrop::kCounts, WholeDrop::kKeepsSequence}) {
    auto cached = cache(whole_drop);
    cached.upsert(Fork::kRead, blocks(0, 4, 100));
    const auto before = cached.sequence();
    cached.invalidate({.offset = 0, .length = abi::kToEndOfFile});
    EXPECT_FALSE(cached.find(0, 1));
    EXPECT_EQ(cached.sequence() == before, whole_drop == WholeDrop::kKeepsSequence);
    EXPECT_TRUE(cached.exists()) << "emptied is not absent";
  }
}

TEST(MappingCacheTest, DropsAForkThatIsTooLarge) {
  MappingCache cached(256, kBlock, WholeDrop::kCounts);
  std::size_t most = 0;
  for (std::uint64_t block = 0; block < 40; ++block) {
    cached.upsert(Fork::kRead, blocks(2 * block, 1, 100 + 7 * block));
    EXPECT_TRUE(cached.find(2 * block * kBlock, 1)) << "the new one is there";
    most = std::max(most, cached.mappings(Fork::kRead).size());
  }
  EXPECT_EQ(most, 256 / sizeof(abi::Mapping) + 1);
}

TEST(MappingCacheTest, AWriteForkThatWasEmptiedIsAMiss) {
  auto cached = cache();
  auto pure = blocks(0, 4, 0, abi::kPureOverwrite);
  cached.upsert(Fork::kRead, blocks(0, 4, 100));
  cached.upsert(Fork::kWrite, pure);
  EXPECT_EQ(cached.find(0, 1)->write.type, abi::kPureOverwrite);
  EXPECT_TRUE(cached.mappings(Fork::kWrite).empty()) << "makes no fork";
  cached.upsert(Fork::kWrite, blocks(0, 1, 700));
  EXPECT_EQ(cached.find(0, 1)->write.address, 700 * kBlock);
  EXPECT_FALSE(cached.find(kBlock, 1));
  cached.invalidate(Fork::kWrite, {.offset = 0, .length = kBlock});
  EXPECT_FALSE(cached.find(0, 1));
}

}  // namespace
}  // namespace fuse4fs::iomap_model
