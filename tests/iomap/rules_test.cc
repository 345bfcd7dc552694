// SPDX-License-Identifier: GPL-2.0-or-later
// Each thing that the kernel checks, one step on both sides of it.
#include "tests/iomap/rules.h"

#include <gtest/gtest.h>

namespace fuse4fs::iomap_model {
namespace {

constexpr std::uint64_t kBlock = 4096, kDeviceSize = std::uint64_t{1} << 30;

RuleContext context(RuleContext::Cache cache = RuleContext::Cache::kAbsent) {
  return {
      .block_size = kBlock,
      .largest_file = std::uint64_t{1} << 40,
      .cache = cache,
      .device_size = [](std::uint32_t id) { return id == 1 ? std::optional(kDeviceSize) : std::nullopt; }};
}

constexpr abi::Mapping kGood{
    .offset = 8192, .length = 8192, .address = 4096, .type = abi::kMapped, .flags = 0, .device = 1};
constexpr abi::Mapping kHole{.offset = 8192,
                             .length = 8192,
                             .address = abi::kNullAddress,
                             .type = abi::kHole,
                             .flags = 0,
                             .device = abi::kNullDevice};

abi::Mapping with(abi::Mapping mapping, const std::function<void(abi::Mapping&)>& change) {
  change(mapping);
  return mapping;
}
std::optional<Rule> rule(const std::optional<Breach>& breach) {
  return breach ? std::optional(breach->rule) : std::nullopt;
}
std::optional<Rule> judged(const abi::Mapping& mapping, Record record = Record::kRead) {
  return rule(check_mapping(mapping, record, context()));
}
std::optional<Rule> judged_begin(const abi::Mapping& read, const abi::Mapping& write,
                                 std::uint64_t position) {
  return rule(check_begin({.read = read, .write = write}, position, context()));
}
constexpr abi::Mapping kPure = [] {
  abi::Mapping mapping = kHole;
  mapping.type = abi::kPureOverwrite;
  return mapping;
}();

TEST(Rules, OfAMapping) {
  EXPECT_EQ(judged(kGood), std::nullopt);
  EXPECT_EQ(judged(kHole), std::nullopt);
  for (const std::uint16_t type : {5, 6, 252, 256, 65535})
    EXPECT_EQ(judged(with(kGood, [&](auto& m) { m.type = type; })), Rule::kMappingType) << type;
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.flags = 0xff; })), std::nullopt);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.flags = 0x100; })), Rule::kMappingFlags);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.length = 0; })), Rule::kMappingLengthZero);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.offset += 1; })), Rule::kMappingOffsetMisaligned);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.length -= 1; })), Rule::kMappingLengthMisaligned);
  EXPECT_EQ(judged(with(kHole, [](auto& m) { m.length = std::uint64_t{0} - m.offset; })),
            Rule::kMappingOverflow);
  EXPECT_EQ(judged(with(kHole, [](auto& m) { m.length = std::uint64_t{0} - m.offset - kBlock; })),
            std::nullopt)
      << "it may end behind the largest file";
  EXPECT_EQ(judged(with(kHole, [](auto& m) { m.offset = std::uint64_t{1} << 40; })),
            Rule::kMappingBehindLargestFile);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.device = 0; })), Rule::kMappedWithoutDevice);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.address = abi::kNullAddress; })), Rule::kMappedWithoutAddress);
  for (const std::uint16_t type : {abi::kHole, abi::kDelalloc, abi::kInline}) {
    EXPECT_EQ(judged(with(kHole, [&](auto& m) { m.type = type, m.device = 1; })), Rule::kHoleWithDevice);
    EXPECT_EQ(judged(with(kHole, [&](auto& m) { m.type = type, m.address = 0; })), Rule::kHoleWithAddress);
  }
  EXPECT_EQ(judged(kPure), Rule::kPureOverwriteInReadRecord);
  EXPECT_EQ(judged(kPure, Record::kWrite), std::nullopt);
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.address = abi::kNullAddress - 8190; })),
            Rule::kAddressOverflow);
  // Of the kernel's rules none is about the device's end, and none about the address' alignment.
  EXPECT_EQ(judged(with(kGood, [](auto& m) { m.address = kDeviceSize + 1; })), std::nullopt);
}

TEST(Rules, OfRetries) {
  const auto retry = with(kHole, [](auto& m) { m.type = abi::kRetryCache, m.length = 1, m.flags = 0xffff; });
  EXPECT_EQ(judged(retry), Rule::kRetryWithoutCache);
  const auto present = context(RuleContext::Cache::kPresent);
  EXPECT_EQ(rule(check_mapping(retry, Record::kRead, present)), std::nullopt);
  // Its range counts all the same.
  EXPECT_EQ(rule(check_begin({.read = retry, .write = kPure}, 8192, present)), std::nullopt);
  EXPECT_EQ(rule(check_begin({.read = retry, .write = kPure}, 8193, present)), Rule::kPositionNotCovered);
}

TEST(Rules, OfAReply) {
  EXPECT_EQ(judged_begin(kGood, kPure, 8192), std::nullopt);
  EXPECT_EQ(judged_begin(kGood, kPure, 16383), std::nullopt);
  EXPECT_EQ(judged_begin(kGood, kPure, 16384), Rule::kPositionNotCovered);
  EXPECT_EQ(judged_begin(kGood, kPure, 8191), Rule::kPositionNotCovered);
  EXPECT_EQ(judged_begin(kGood, with(kPure, [](auto& m) { m.length = kBlock; }), 12288),
            Rule::kPositionNotCovered)
      << "the write record counts for reads";
  EXPECT_EQ(judged_begin(kGood, {}, 8192), Rule::kMappingLengthZero) << "left empty";
  EXPECT_EQ(judged_begin(kGood, with(kPure, [](auto& m) { m.type = abi::kNoCache; }), 8192),
            Rule::kNoCacheInReply);
  for (const std::uint32_t device : {2U, 0x7fffffffU, 0xffffffffU})
    EXPECT_EQ(judged_begin(with(kGood, [&](auto& m) { m.device = device; }), kPure, 8192),
              Rule::kDeviceUnknown);
}

TEST(Rules, OfNotifications) {
  const auto upsert = [](const abi::Mapping& mapping) {
    return rule(check_upsert(mapping, Record::kRead, context()));
  };
  EXPECT_EQ(upsert(kGood), std::nullopt);
  EXPECT_EQ(upsert(kHole), std::nullopt);
  EXPECT_EQ(upsert(with(kGood, [](auto& m) { m.type = abi::kNoCache, m.length = 0; })), std::nullopt);
  EXPECT_EQ(upsert(with(kGood, [](auto& m) { m.type = abi::kRetryCache; })), Rule::kRetryInUpsert);
  EXPECT_EQ(upsert(with(kGood, [](auto& m) { m.address = kDeviceSize - m.length; })), std::nullopt);
  EXPECT_EQ(upsert(with(kGood, [](auto& m) { m.address = kDeviceSize - m.length + 1; })),
            Rule::kUpsertBehindDevice);
  EXPECT_EQ(upsert(with(kGood, [](auto& m) { m.device = 2; })), Rule::kDeviceUnknown);
  const auto invalidation = [](std::uint64_t offset, std::uint64_t length) {
    return rule(check_invalidation({.offset = offset, .length = length}, context()));
  };
  EXPECT_EQ(invalidation(1, 0), std::nullopt) << "nothing";
  EXPECT_EQ(invalidation(0, abi::kToEndOfFile), std::nullopt);
  EXPECT_EQ(invalidation(4096, 4096), std::nullopt);
  EXPECT_EQ(invalidation(4096, 4095), Rule::kInvalidationMisaligned);
  EXPECT_EQ(invalidation(4095, 4096), Rule::kInvalidationMisaligned);
  EXPECT_EQ(invalidation(std::uint64_t{1} << 40, 4096), Rule::kInvalidationBehindLargestFile);
}

TEST(Rules, OfUses) {
  const auto use = [](std::uint16_t type, std::uint32_t operation, std::uint64_t size = 1000) {
    return rule(
        check_use(with(kHole, [&](auto& m) { m.type = type, m.offset = 0; }), operation, 0, kBlock, size));
  };
  EXPECT_EQ(use(abi::kHole, 0), std::nullopt);
  EXPECT_EQ(use(abi::kHole, abi::kOpZero), std::nullopt);
  EXPECT_EQ(use(abi::kHole, abi::kOpWrite), Rule::kHoleForBufferedWrite);
  EXPECT_EQ(use(abi::kHole, abi::kOpWrite | abi::kOpFault), Rule::kHoleForBufferedWrite);
  EXPECT_EQ(use(abi::kHole, abi::kOpWrite | abi::kOpDirect), Rule::kHoleForDirectWrite);
  EXPECT_EQ(use(abi::kHole, abi::kOpDirect), std::nullopt);
  EXPECT_EQ(use(abi::kHole, abi::kOpWriteback), Rule::kHoleForWriteback);
  EXPECT_EQ(use(abi::kDelalloc, abi::kOpWrite), std::nullopt);
  EXPECT_EQ(use(abi::kDelalloc, abi::kOpDirect), Rule::kDelallocForDirectWrite);
  EXPECT_EQ(use(abi::kDelalloc, abi::kOpWriteback), Rule::kDelallocForWriteback);
  EXPECT_EQ(use(abi::kInline, 0, 8192), std::nullopt);
  EXPECT_EQ(use(abi::kInline, 0, 8193), Rule::kInlineTooLarge);
  EXPECT_EQ(use(abi::kInline, abi::kOpWriteback), Rule::kInlineForWriteback);
  EXPECT_EQ(use(abi::kUnwritten, abi::kOpWrite | abi::kOpOverwriteOnly), Rule::kOverwriteOfUnwritten);
  EXPECT_EQ(use(abi::kMapped, abi::kOpWrite | abi::kOpOverwriteOnly), std::nullopt);
  constexpr std::uint32_t kDirectWrite = abi::kOpDirect | abi::kOpWrite;
  constexpr std::uint32_t kAtomicWrite = kDirectWrite | abi::kOpAtomic;
  const abi::Mapping promised = with(kGood, [](auto& m) { m.flags |= abi::kAtomicBio; });
  EXPECT_EQ(rule(check_use(promised, kAtomicWrite, 12288, 4096, 0)), std::nullopt);
  EXPECT_EQ(rule(check_use(promised, kAtomicWrite, 12288, 8192, 0)), Rule::kAtomicInPieces);
  EXPECT_EQ(rule(check_use(kGood, kAtomicWrite, 12288, 4096, 0)), Rule::kAtomicNotPromised);
  EXPECT_EQ(rule(check_use(promised, kDirectWrite, 12288, 4096, 0)), Rule::kAtomicUnasked);
  EXPECT_EQ(rule(check_use(promised, abi::kOpWrite, 12288, 4096, 0)), std::nullopt);
}

TEST(Rules, HaveANameEach) {
  std::set<std::string_view> names;
  for (int value = 0; value <= static_cast<int>(Rule::kDataLost); ++value) {
    const auto words = name(static_cast<Rule>(value));
    EXPECT_NE(words, "?") << value;
    EXPECT_TRUE(names.insert(words).second) << words;
  }
}

}  // namespace
}  // namespace fuse4fs::iomap_model
