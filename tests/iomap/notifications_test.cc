// SPDX-License-Identifier: GPL-2.0-or-later
// What a server tells the kernel unasked, and whose blocks it frees.
#include <gtest/gtest.h>

#include "tests/iomap/allocating_mount.h"
#include "tests/iomap/scenario.h"

namespace fuse4fs::iomap_model {
namespace {

class NotificationTest : public ::testing::Test {
 protected:
  NotificationTest() {
    EXPECT_TRUE(kernel().mount());
    file_ = *kernel().create("file");
  }
  Kernel& kernel() { return mount_.kernel(); }
  template <class Struct>
  int told(std::int32_t code, const Struct& what) {
    const auto outcome = fuse::notify(kernel(), -1, code, what);
    return outcome ? 0 : outcome.error().value();
  }
  abi::UpsertMappingsOut upsert(std::uint16_t type, std::uint64_t address) {
    abi::UpsertMappingsOut out{};
    out.node = out.inode = file_->node();
    out.read = {.offset = 0,
                .length = 4096,
                .address = address,
                .type = type,
                .flags = 0,
                .device = address == abi::kNullAddress ? 0U : 1U};
    out.write.type = abi::kNoCache;
    return out;
  }
  void expect_only(Rule rule) {
    EXPECT_EQ(kernel().breaches().rules(), std::set<Rule>{rule}) << kernel().breaches().words();
  }

  AllocatingMount mount_{AllocatingMount::Options{}};
  std::shared_ptr<File> file_;
};

TEST_F(NotificationTest, OfTheRightKindAreTaken) {
  EXPECT_EQ(told(abi::kUpsertMappings, upsert(abi::kHole, abi::kNullAddress)), 0);
  EXPECT_TRUE(file_->mapper().cache().find(0, 1));
  const auto node = file_->node();
  EXPECT_EQ(told(abi::kInvalidateMappings,
                 abi::InvalidateMappingsOut{.node = node, .inode = node, .read = {0, 4096}, .write = {}}),
            0);
  EXPECT_FALSE(file_->mapper().cache().find(0, 1));
  EXPECT_EQ(
      told(abi::kDeviceInvalidate, abi::DeviceInvalidateOut{.device = 1, .reserved = 0, .range = {0, 4096}}),
      0);
  EXPECT_TRUE(kernel().breaches().empty()) << kernel().breaches().words();
}

TEST_F(NotificationTest, OfAnInodeThatIsNotInMemoryAreStale) {
  auto out = upsert(abi::kHole, abi::kNullAddress);
  out.node = 999;
  EXPECT_EQ(told(abi::kUpsertMappings, out), ESTALE);
  EXPECT_TRUE(kernel().breaches().empty());
}

TEST_F(NotificationTest, OfAnotherInode) {
  auto out = upsert(abi::kHole, abi::kNullAddress);
  out.inode += 1;
  EXPECT_EQ(told(abi::kUpsertMappings, out), EINVAL);
  expect_only(Rule::kNotificationOfOtherInode);
}

TEST_F(NotificationTest, OfAnotherSize) {
  EXPECT_EQ(told(abi::kInvalidateMappings, std::uint64_t{0}), EINVAL);
  expect_only(Rule::kNotificationSize);
}

TEST_F(NotificationTest, RetryIsNoMapping) {
  EXPECT_EQ(told(abi::kUpsertMappings, upsert(abi::kRetryCache, abi::kNullAddress)), EUCLEAN);
  expect_only(Rule::kRetryInUpsert);
}

TEST_F(NotificationTest, OfFreeBlocks) {
  EXPECT_EQ(file_->write(4096, pattern(1, 0, 4096)), 4096U);
  EXPECT_EQ(told(abi::kUpsertMappings, upsert(abi::kUnwritten, 1 << 20)), EUCLEAN);
  expect_only(Rule::kMappedFreeBlocks);
}

TEST_F(NotificationTest, OfBlocksOfAnotherPlace) {
  EXPECT_EQ(file_->write(4096, pattern(1, 0, 4096)), 4096U);
  EXPECT_EQ(told(abi::kUpsertMappings, upsert(abi::kUnwritten, 0)), EUCLEAN);
  expect_only(Rule::kMappedTwice);
}

TEST_F(NotificationTest, OfDevices) {
  const auto device = [&](std::uint32_t id, abi::Range range) {
    return told(abi::kDeviceInvalidate,
                abi::DeviceInvalidateOut{.device = id, .reserved = 0, .range = range});
  };
  EXPECT_EQ(device(0, {0, 4096}), EINVAL);
  EXPECT_EQ(device(2, {0, 4096}), ENODEV);
  EXPECT_EQ(device(1, {kernel().device()->size(), 4096}), EINVAL);
  EXPECT_EQ(device(1, {4096, ~std::uint64_t{0}}), EINVAL);
  expect_only(Rule::kDeviceInvalidationRefused);
}

TEST(BlockOwnersTest, BlocksAreFreedOnceAndNotBeneathATransfer) {
  Breaches breaches;
  BlockOwners owners(breaches, BlockOwners::Invalidation::kBeforeEachFree,
                     [](auto, auto, auto) { return false; });
  owners.allocated({.offset = 8192, .length = 8192});
  {
    const BlockOwners::InFlight flight(owners, {.offset = 12288, .length = 512});
    owners.freed({.offset = 8192, .length = 4096});
    EXPECT_TRUE(breaches.empty());
    owners.freed({.offset = 12288, .length = 4096});
    EXPECT_EQ(breaches.rules(), std::set<Rule>{Rule::kFreedUnderIo});
  }
  owners.allocated({.offset = 12288, .length = 4096});
  owners.freed({.offset = 12288, .length = 4096});
  EXPECT_EQ(breaches.rules(), std::set<Rule>{Rule::kFreedUnderIo});
  owners.freed({.offset = 12288, .length = 4096});
  EXPECT_TRUE(breaches.rules().contains(Rule::kFreedTwice));
}

TEST(BlockOwnersTest, WhatTheKernelAskedForNeedsNoInvalidationIfSaidSo) {
  for (const auto invalidation :
       {BlockOwners::Invalidation::kBeforeEachFree, BlockOwners::Invalidation::kUnlessTheKernelDoes}) {
    Breaches breaches;
    BlockOwners owners(breaches, invalidation, [](auto, auto, auto) { return true; });
    owners.allocated({.offset = 0, .length = 8192});
    EXPECT_FALSE(owners.claim(12, {.offset = 0, .length = 8192}, 0));
    EXPECT_EQ(owners.claim(13, {.offset = 0, .length = 4096}, 4096)->rule, Rule::kMappedTwice);
    owners.releasing(12, {.offset = 0, .length = 4096});
    owners.freed({.offset = 0, .length = 4096});
    EXPECT_EQ(breaches.empty(), invalidation == BlockOwners::Invalidation::kUnlessTheKernelDoes);
    owners.freed({.offset = 4096, .length = 4096});
    EXPECT_EQ(breaches.rules(), std::set<Rule>{Rule::kInvalidationForgotten}) << "nobody asked for this one";
  }
}

}  // namespace
}  // namespace fuse4fs::iomap_model
