// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

#include "base/activity.h"

namespace fuse4fs::cache {
namespace {

// What the watchdog takes for a sign that a slow device gets on.
TEST(BlockDevice, EachTransferThatEndsIsAStep) {
  UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(file);
  constexpr std::size_t kBlock = 4096;
  ASSERT_EQ(::ftruncate(file.get(), 4 * kBlock), 0);
  auto device = BlockDevice::adopt(std::move(file), UniqueFd(), Access::kReadWrite);
  ASSERT_TRUE(device);

  Activity activity(1);
  const Activity::Member member(activity, 0);
  std::uint64_t steps = 0;
  const auto expect_step = [&](const char* after) {
    EXPECT_GT(activity.of(0).steps, steps) << after;
    steps = activity.of(0).steps;
  };
  std::array<std::byte, kBlock> block{};
  ASSERT_TRUE(device->read(0, block));
  expect_step("read");
  ASSERT_TRUE(device->write(0, block));
  expect_step("write");
  ASSERT_TRUE(device->flush());
  expect_step("flush");
  ASSERT_TRUE(device->discard(0, kBlock));
  expect_step("discard");
  ASSERT_FALSE(device->read(4 * kBlock, block));
  EXPECT_EQ(activity.of(0).steps, steps) << "nothing was transferred";
}

}  // namespace
}  // namespace fuse4fs::cache
