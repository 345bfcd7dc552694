// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/handle.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/devices/memory_backend.h"

namespace fuse4fs::journal {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kBlocks = 64;

// Counts what reaches it, on the way to a volume without a journal.
class Log final : public ChangeLog {
 public:
  using Runs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

  Result<cache::Change> modify(cache::Buffer& buffer, Changed changed) override {
    note(buffer.block(), changed);
    return below_.modify(buffer, changed);
  }
  Result<cache::Buffer> get_new(std::uint64_t block, cache::BlockRole role, Changed changed) override {
    note(block, changed);
    return below_.get_new(block, role, changed);
  }
  Result<void> write(std::uint64_t block, std::size_t inside, std::span<const std::byte> from,
                     Changed changed) override {
    note(block, changed);
    return below_.write(block, inside, from, changed);
  }
  void revoke(std::uint64_t first_block, std::uint64_t count) override {
    revoked.emplace_back(first_block, count);
    below_.revoke(first_block, count);
  }
  void forget(std::uint64_t first_block, std::uint64_t count) override {
    forgotten.emplace_back(first_block, count);
    below_.forget(first_block, count);
  }
  bool has_room(std::size_t blocks) override { return blocks <= room; }

  std::vector<std::uint64_t> first, again;
  Runs revoked, forgotten;
  std::size_t room = 100;
  cache::BufferCache& cache() { return cache_; }

 private:
  void note(std::uint64_t block, Changed changed) {
    (changed == Changed::kFirst ? first : again).push_back(block);
  }

  cache::BlockDevice device_{
      std::make_unique<cache::MemoryBackend>(std::make_shared<cache::Memory>(kBlocks * kBlock)),
      cache::Access::kReadWrite};
  cache::BufferCache cache_{device_, kBlock};
  NoJournal below_{cache_};
};

class HandleTest : public testing::Test {
 protected:
  void put(std::uint64_t block, char byte) {
    auto buffer = log_.cache().get(block);
    ASSERT_TRUE(buffer);
    const auto change = journal_.modify(*buffer);
    ASSERT_TRUE(change);
    change->bytes()[0] = static_cast<std::byte>(byte);
  }
  char byte_of(std::uint64_t block) { return static_cast<char>(log_.cache().get(block)->bytes()[0]); }

  Log log_;
  Journal journal_{log_};
};
using HandleDeathTest = HandleTest;

TEST_F(HandleTest, SeveralAreOpenAtOnce) {
  std::atomic<int> open{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      const auto handle = journal_.start({.blocks = 1});
      ++open;
      while (open != 2) std::this_thread::yield();
    });
}

TEST_F(HandleTest, APauseWaitsForThemAndHoldsNewOnesOff) {
  std::optional<Handle> handle(journal_.start({.blocks = 1}));
  std::atomic<bool> paused{false}, over{false};
  std::jthread pauser([&] {
    const auto pause = journal_.pause();
    paused = true;
    while (!over) std::this_thread::yield();
  });
  EXPECT_FALSE(paused);
  handle.reset();
  while (!paused) std::this_thread::yield();
  std::jthread late([&] {
    const auto other = journal_.start({.blocks = 1});
    EXPECT_TRUE(over);
  });
  over = true;
}

TEST_F(HandleTest, ThatWasMovedEndsOnce) {
  {
    Handle first = journal_.start({.blocks = 1});
    const Handle second = std::move(first);
    EXPECT_TRUE(journal_.has_handle());
  }
  EXPECT_FALSE(journal_.has_handle());
  const auto pause = journal_.pause();
}

// Nobody sees a half: a change of two numbers under handles, looked at under pauses, from many threads.
TEST_F(HandleTest, WhoPausesSeesNoHalfOfAChange) {
  std::atomic<int> one{0}, other{0};
  std::atomic<int> running{3};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        const auto handle = journal_.start({.blocks = 2});
        ++one;
        ++other;
      }
      --running;
    });
  while (running != 0) {
    const auto pause = journal_.pause();
    EXPECT_EQ(one, other);
  }
}

TEST_F(HandleTest, EachThreadHasItsOwn) {
  EXPECT_FALSE(journal_.has_handle());
  std::optional<Handle> handle(journal_.start({.blocks = 7}));
  put(3, 'a');
  std::jthread([&] {
    EXPECT_FALSE(journal_.has_handle());
    EXPECT_EQ(journal_.used().blocks, 0U);
    const auto mine = journal_.start({.blocks = 1});
    EXPECT_TRUE(journal_.has_handle());
    EXPECT_FALSE(journal_.has_pause());
    EXPECT_EQ(journal_.granted().blocks, 1U);
    put(4, 'b');
    EXPECT_EQ(journal_.used().blocks, 1U);
  }).join();
  EXPECT_TRUE(journal_.has_handle());
  EXPECT_EQ(journal_.granted().blocks, 7U);
  EXPECT_EQ(journal_.used().blocks, 1U);
  Log log;
  const Journal another(log);
  EXPECT_FALSE(another.has_handle());
  handle.reset();
  EXPECT_FALSE(journal_.has_handle());
  const auto pause = journal_.pause();
  EXPECT_TRUE(journal_.has_pause());
  EXPECT_FALSE(journal_.has_handle());
}

TEST_F(HandleTest, CountsEachBlockOnce) {
  const auto handle = journal_.start({.blocks = 3});
  put(7, 'a');
  put(3, 'b');
  put(7, 'c');
  ASSERT_TRUE(journal_.get_new(9, {.kind = cache::BlockKind::kExtents, .owner = 12}));
  const std::byte byte{'d'};
  ASSERT_TRUE(journal_.write(3, 100, std::span(&byte, 1), 0));
  EXPECT_EQ(journal_.used().blocks, 3U);
  EXPECT_EQ(log_.first, (std::vector<std::uint64_t>{7, 3, 9}));
  EXPECT_EQ(log_.again, (std::vector<std::uint64_t>{7, 3}));
  EXPECT_EQ(byte_of(7), 'c');
  EXPECT_EQ(log_.cache().get(3)->bytes()[100], byte);
  EXPECT_EQ(log_.cache().dirty_blocks(), 3U);
}

// More than are usual.
TEST_F(HandleTest, CountsManyBlocks) {
  for (int round = 0; round < 2; ++round) {
    const auto handle = journal_.start({.blocks = kBlocks});
    for (int again = 0; again < 2; ++again) {
      for (std::uint64_t i = 0; i < kBlocks; ++i) put(i * 37 % kBlocks, 'a');
    }
    EXPECT_EQ(journal_.used().blocks, kBlocks);
  }
  EXPECT_EQ(log_.first.size(), 2 * kBlocks);
  EXPECT_EQ(log_.again.size(), 2 * kBlocks);
}

TEST_F(HandleTest, TellsTheLogWhatIsFreed) {
  const auto handle = journal_.start({.blocks = 2});
  put(7, 'a');
  put(8, 'a');
  journal_.forget(6, 2);
  journal_.revoke(7, 1);
  EXPECT_EQ(log_.forgotten, (Log::Runs{{6, 2}}));
  EXPECT_EQ(log_.revoked, (Log::Runs{{7, 1}}));
  EXPECT_EQ(log_.cache().dirty_blocks(), 1U);
  EXPECT_EQ(byte_of(7), '\0');
}

TEST_F(HandleTest, GetsMoreCreditsWhereThereIsRoom) {
  const auto handle = journal_.start({.blocks = 5});
  put(7, 'a');
  EXPECT_TRUE(journal_.ensure({.blocks = 4}));
  EXPECT_EQ(journal_.granted().blocks, 5U);
  EXPECT_TRUE(journal_.ensure({.blocks = 104}));
  EXPECT_EQ(journal_.granted().blocks, 105U);
  EXPECT_FALSE(journal_.ensure({.blocks = 205}));
  EXPECT_EQ(journal_.granted().blocks, 105U);
}

// Between its halves a Pause may come, and sees the first of them.
TEST_F(HandleTest, ThatBeginsAnewLetsAPauseIn) {
  const auto handle = journal_.start({.blocks = 1});
  put(7, 'a');
  std::atomic<bool> over{false};
  std::jthread pauser([&] {
    const auto pause = journal_.pause();
    over = true;
  });
  while (!over) journal_.restart({.blocks = 3});
  EXPECT_TRUE(journal_.has_handle());
  EXPECT_EQ(journal_.used().blocks, 0U);
  EXPECT_EQ(journal_.granted().blocks, 3U);
  put(7, 'b');
  EXPECT_EQ(journal_.used().blocks, 1U);
}

#ifdef NDEBUG
TEST_F(HandleTest, WhatIsDoneWithoutOneIsDone) {
  put(7, 'a');
  const auto handle = journal_.start({.blocks = 0});
  put(8, 'b');
  EXPECT_EQ(byte_of(7), 'a');
  EXPECT_EQ(byte_of(8), 'b');
}
#else
TEST_F(HandleDeathTest, RunsOutOfCredits) {
  const auto handle = journal_.start({.blocks = 1});
  put(7, 'a');
  put(7, 'b');
  EXPECT_DEATH(put(8, 'c'), "a handle for 1 blocks changes one more, block 8");
}

TEST_F(HandleDeathTest, IsMissing) {
  EXPECT_DEATH(put(7, 'a'), "block 7 is changed without a handle");
  EXPECT_DEATH((void)journal_.get_new(7, {}), "block 7 is changed without a handle");
  EXPECT_DEATH(journal_.forget(7, 1), "block 7 is freed without a handle");
  EXPECT_DEATH(journal_.revoke(7, 1), "block 7 is revoked without a handle");
  Log log;
  Journal another(log);
  const auto handle = another.start({.blocks = 1});
  EXPECT_DEATH(put(7, 'a'), "block 7 is changed without a handle");
}
#endif

}  // namespace
}  // namespace fuse4fs::journal
