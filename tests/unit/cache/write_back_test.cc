// SPDX-License-Identifier: GPL-2.0-or-later
// WriteBack: the dirty blocks of one moment, written in the order that somebody chooses.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "server/cache/buffer_cache.h"
#include "tests/devices/faulty_backend.h"
#include "tests/devices/memory_backend.h"
#include "tests/devices/recording_backend.h"

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kBlocks = 512;
constexpr BlockRole kLeaf{BlockKind::kDirectoryLeaf, 12};

void put(Buffer& buffer, std::string_view text) {
  const auto change = buffer.change();
  ASSERT_TRUE(change);
  std::memcpy(change->bytes().data(), text.data(), text.size());
}

class WriteBackTest : public testing::Test {
 protected:
  void put_block(std::uint64_t block, std::string_view text) {
    auto buffer = cache_.get(block);
    ASSERT_TRUE(buffer);
    put(*buffer, text);
  }
  std::string on_device(std::uint64_t block, std::size_t length) const {
    return memory_->read(block * kBlock, length);
  }
  using Lines = std::vector<std::string>;
  using Indices = std::vector<std::size_t>;

  const std::shared_ptr<Memory> memory_ = std::make_shared<Memory>(kBlocks * kBlock);
  const std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  const std::shared_ptr<Recording> recording_ = std::make_shared<Recording>();
  BlockDevice device_{
      std::make_unique<FaultyBackend>(
          std::make_unique<RecordingBackend>(std::make_unique<MemoryBackend>(memory_), recording_), faults_),
      Access::kReadWrite};
  BufferCache cache_{device_, kBlock};
};

TEST_F(WriteBackTest, IsInTheOrderThatIsAskedFor) {
  for (const std::uint64_t block : {9, 3, 4, 20}) put_block(block, "x");
  auto all = cache_.begin_write_back();
  ASSERT_EQ(all.blocks().size(), 4U);
  EXPECT_EQ(all.blocks()[0].block, 3U);
  EXPECT_EQ(all.blocks()[3].block, 20U);
  EXPECT_EQ(cache_.dirty_blocks(), 4U);
  ASSERT_TRUE(all.write(Indices{2, 3}));
  EXPECT_EQ(cache_.dirty_blocks(), 2U);
  ASSERT_TRUE(all.write(Indices{0, 1}));
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
  EXPECT_EQ(recording_->take_lines(), (Lines{"W 36864+4096", "W 81920+4096", "W 12288+8192"}));
}

TEST_F(WriteBackTest, IsOfTheMomentWhenItBegan) {
  put_block(3, "then");
  put_block(4, "then");
  {
    auto all = cache_.begin_write_back();
    put_block(3, "now ");
    put_block(5, "now ");
    EXPECT_EQ(std::memcmp(all.blocks()[0].bytes.data(), "then", 4), 0);
    ASSERT_TRUE(all.write(Indices{0}));
    EXPECT_EQ(on_device(3, 4), "then");
    EXPECT_EQ(std::memcmp(cache_.get(3)->bytes().data(), "now ", 4), 0);
  }
  // What it did not come to is due, as are the changes.
  EXPECT_EQ(on_device(4, 1), std::string(1, '\0'));
  EXPECT_EQ(cache_.dirty_blocks(), 3U);
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(3, 4), "now ");
  EXPECT_EQ(on_device(4, 4), "then");
  EXPECT_EQ(on_device(5, 4), "now ");
}

TEST_F(WriteBackTest, AnotherImageIsNotTheBlocksOwnWrite) {
  put_block(3, "its own");
  auto all = cache_.begin_write_back();
  std::vector<std::byte> image(all.blocks()[0].bytes.begin(), all.blocks()[0].bytes.end());
  std::memcpy(image.data(), "another", 7);
  ASSERT_TRUE(all.write_instead(0, image));
  EXPECT_EQ(on_device(3, 7), "another");
  EXPECT_EQ(cache_.dirty_blocks(), 1U);
  ASSERT_TRUE(all.write(Indices{0}));
  EXPECT_EQ(on_device(3, 7), "its own");
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
}

TEST_F(WriteBackTest, WhatFailsIsDue) {
  put_block(3, "x");
  put_block(4, "x");
  put_block(9, "x");
  faults_->add({.offset = 4 * kBlock, .length = kBlock, .times = 2});
  {
    auto all = cache_.begin_write_back();
    const auto written = all.write(Indices{0, 1, 2});
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().first, 4U);
    EXPECT_EQ(on_device(9, 1), "x");
  }
  EXPECT_EQ(cache_.dirty_blocks(), 1U);
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(4, 1), "x");
}

// Its new owner does not get the block before the write-back is done.
TEST_F(WriteBackTest, ForgettingDoesNotWaitForIt) {
  put_block(3, "old");
  {
    auto all = cache_.begin_write_back();
    cache_.forget(3, 1);
    EXPECT_EQ(cache_.cached_blocks(), 0U);
    put_block(3, "new");
    ASSERT_TRUE(all.write(Indices{0}));
    EXPECT_EQ(on_device(3, 3), "old");
  }
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(3, 3), "new");
  put_block(3, "end");
  {
    const auto all = cache_.begin_write_back();
    cache_.forget(3, 1);
  }
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
}

// Or a write-back would be left out for which there is something.
TEST_F(WriteBackTest, WhatChangesOnItsWayAndIsForgottenIsCountedOnce) {
  put_block(3, "then");
  {
    auto all = cache_.begin_write_back();
    put_block(3, "now ");
    cache_.forget(3, 1);
    EXPECT_EQ(cache_.dirty_blocks(), 1U) << "it is on its way";
    ASSERT_TRUE(all.write(Indices{0}));
  }
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
  put_block(4, "x");
  EXPECT_EQ(cache_.dirty_blocks(), 1U);
}

TEST_F(WriteBackTest, EarlyOnesAreFresh) {
  BufferCache cache(device_, kBlock, {.limit = 64 * kBlock, .early = BufferCache::Options::Early::kFresh});
  ASSERT_TRUE(cache.get_new(300, kLeaf));
  const auto change = [&](std::uint64_t block) {
    auto buffer = cache.get(block);
    ASSERT_TRUE(buffer);
    put(*buffer, "x");
  };
  for (std::uint64_t block = 100; block < 140; ++block) change(block);
  EXPECT_TRUE(cache.wants_write_back());
  EXPECT_EQ(recording_->take_lines(), Lines{"W 1228800+4096"});
  {
    auto all = cache.begin_write_back();
    EXPECT_FALSE(cache.wants_write_back());
    EXPECT_EQ(all.blocks().size(), 40U);
  }
  // It is not fresh any more.
  change(300);
  (void)recording_->take_lines();
  for (std::uint64_t block = 140; block < 150; ++block) change(block);
  EXPECT_TRUE(recording_->take_lines().empty());
  EXPECT_TRUE(cache.wants_write_back());
}

// Threads change what is being written: each write-back has each block as it was at one moment.
TEST_F(WriteBackTest, ThreadsGoOnMeanwhile) {
  constexpr std::uint64_t kShared = 40;
  constexpr int kRounds = 3000;
  for (std::uint64_t block = 0; block < kShared; ++block) put_block(block, std::string(8, '\0'));
  std::atomic<bool> done = false;
  std::thread writer([&] {
    while (!done) {
      auto all = cache_.begin_write_back();
      for (std::size_t i = all.blocks().size(); i-- > 0;) {
        std::uint32_t halves[2];
        std::memcpy(halves, all.blocks()[i].bytes.data(), sizeof halves);
        EXPECT_EQ(halves[0], halves[1]);
        EXPECT_TRUE(all.write(Indices{i}));
      }
    }
  });
  for (int round = 1; round <= kRounds; ++round) {
    auto buffer = cache_.get(static_cast<std::uint64_t>(round) % kShared);
    const auto change = buffer->change();
    for (const std::size_t at : {0U, 4U}) std::memcpy(change->bytes().data() + at, &round, sizeof round);
  }
  done = true;
  writer.join();
  ASSERT_TRUE(cache_.flush());
  for (std::uint64_t block = 0; block < kShared; ++block)
    EXPECT_EQ(on_device(block, 4), on_device(block, 8).substr(4));
}

}  // namespace
}  // namespace fuse4fs::cache
