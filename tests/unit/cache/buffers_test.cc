// SPDX-License-Identifier: GPL-2.0-or-later
// BufferCache by its handles: verified once, changed while it is written, within its limit, with many
// threads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
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
constexpr std::size_t kBlocks = 2048;
constexpr BlockRole kLeaf{BlockKind::kDirectoryLeaf, 12};

std::string text_of(std::span<const std::byte> bytes, std::size_t length) {
  return {reinterpret_cast<const char*>(bytes.data()), length};
}

void put(Buffer& buffer, std::string_view text, std::size_t at = 0) {
  const auto change = buffer.change();
  ASSERT_TRUE(change);
  std::memcpy(change->bytes().data() + at, text.data(), text.size());
}

// Where a thread waits until another says so.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() { (void)pass_within(std::chrono::minutes(1)); }
  bool pass_within(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

class Buffers : public testing::Test {
 protected:
  void put_block(std::uint64_t block, const std::string& text) {
    auto buffer = cache_.get(block);
    ASSERT_TRUE(buffer);
    put(*buffer, text);
  }
  std::string on_device(std::uint64_t block, std::size_t length) const {
    return memory_->read(block * kBlock, length);
  }
  // Counts the reads of the device from now on.
  void count_reads() {
    faults_->add({.operation = Fault::Operation::kRead,
                  .effect = Fault::Effect::kHold,
                  .times = Fault::kForever,
                  .held = [] {}});
  }

  const std::shared_ptr<Memory> memory_ = std::make_shared<Memory>(kBlocks * kBlock);
  const std::shared_ptr<Faults> faults_ = std::make_shared<Faults>();
  const std::shared_ptr<Recording> recording_ = std::make_shared<Recording>();
  BlockDevice device_{
      std::make_unique<FaultyBackend>(
          std::make_unique<RecordingBackend>(std::make_unique<MemoryBackend>(memory_), recording_), faults_),
      Access::kReadWrite};
  BufferCache cache_{device_, kBlock};
};

TEST_F(Buffers, AreVerifiedOnceInEachRole) {
  memory_->write(7 * kBlock, "good");
  int calls = 0;
  const auto is_good = [&](std::span<const std::byte> bytes) -> Result<void> {
    ++calls;
    if (text_of(bytes, 4) != "good") return fail(EUCLEAN);
    return {};
  };
  EXPECT_TRUE(cache_.get(7, kLeaf, is_good));
  EXPECT_TRUE(cache_.get(7, kLeaf, is_good));
  EXPECT_TRUE(cache_.get(7));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(cache_.get(7, {BlockKind::kDirectoryLeaf, 13}, is_good));
  EXPECT_TRUE(cache_.get(7, {BlockKind::kXattrs, 13}, is_good));
  EXPECT_TRUE(cache_.get(7, kLeaf, is_good));
  EXPECT_EQ(calls, 4);
  // Whoever changed it is trusted, and may say what it is now.
  auto buffer = cache_.get(7, kLeaf, is_good);
  put(*buffer, "else");
  EXPECT_TRUE(cache_.get(7, kLeaf, is_good));
  buffer->become({BlockKind::kDirectoryIndex, 12});
  EXPECT_TRUE(cache_.get(7, {BlockKind::kDirectoryIndex, 12}, is_good));
  EXPECT_EQ(calls, 4);
  buffer->release();
  // What is written as nothing in particular is nothing in particular.
  ASSERT_TRUE(cache_.write(7 * kBlock, std::as_bytes(std::span("else", 4))));
  EXPECT_TRUE(cache_.get(7, {BlockKind::kDirectoryIndex, 12}, is_good));
  EXPECT_EQ(calls, 4);
  ASSERT_TRUE(cache_.write(7 * kBlock, std::as_bytes(std::span("ELSE", 4))));
  EXPECT_FALSE(cache_.get(7, {BlockKind::kDirectoryIndex, 12}, is_good));
  EXPECT_EQ(calls, 5);
  // What is refused is refused each time, and is here all the same for those who want no check.
  EXPECT_EQ(cache_.get(7, kLeaf, is_good).error(), Errno(EUCLEAN));
  EXPECT_EQ(cache_.get(7, kLeaf, is_good).error(), Errno(EUCLEAN));
  EXPECT_EQ(calls, 7);
  EXPECT_TRUE(cache_.get(7));
  // Forgotten, it comes from the device again.
  cache_.forget(7, 1);
  EXPECT_TRUE(cache_.get(7, kLeaf, is_good));
  EXPECT_EQ(calls, 8);
}

TEST_F(Buffers, AreOfOneInodeAtATime) {
  constexpr BlockRole kOther{BlockKind::kDirectoryLeaf, 13};
  const auto any = [](std::span<const std::byte>) -> Result<void> { return {}; };
  {
    const auto held = cache_.get(7, kLeaf, any);
    ASSERT_TRUE(held);
    EXPECT_TRUE(cache_.get(7, kLeaf, any));
    EXPECT_EQ(cache_.get(7, kOther, any).error(), Errno(EUCLEAN));
    EXPECT_TRUE(cache_.get(7));
  }
  EXPECT_TRUE(cache_.get(7, kOther, any));
}

TEST_F(Buffers, WhatAnInodesUserHasSeenStaysWhenItIsWrittenAsSomethingElse) {
  const auto any = [](std::span<const std::byte>) -> Result<void> { return {}; };
  memory_->write(7 * kBlock, "names");
  {
    const auto held = cache_.get(7, kLeaf, any);
    ASSERT_TRUE(held);
    const auto seen = held->bytes();
    ASSERT_TRUE(cache_.write(7 * kBlock, std::as_bytes(std::span("VALUE", 5))));
    EXPECT_EQ(text_of(seen, 5), "names");
    EXPECT_FALSE(held->keeps_role());
    // It would not hold still for this one either.
    EXPECT_EQ(cache_.get(7, {BlockKind::kDirectoryLeaf, 13}, any).error(), Errno(EUCLEAN));
  }
  const auto after = cache_.get(7, {BlockKind::kDirectoryLeaf, 13}, any);
  ASSERT_TRUE(after);
  EXPECT_EQ(text_of(after->bytes(), 5), "VALUE");
  EXPECT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(7, 5), "VALUE");
}

TEST_F(Buffers, ANewOneIsNotRead) {
  memory_->write(9 * kBlock, "what lay there before");
  count_reads();
  {
    auto buffer = cache_.get_new(9, kLeaf);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(text_of(buffer->bytes(), 4), std::string(4, '\0'));
    put(*buffer, "mine");
  }
  EXPECT_TRUE(cache_.get(9, kLeaf, [](std::span<const std::byte>) -> Result<void> { return fail(EUCLEAN); }));
  EXPECT_EQ(faults_->strikes(), 0U);
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(9, 8), std::string("mine\0\0\0\0", 8));
  // One that is here already begins anew as well.
  ASSERT_TRUE(cache_.get_new(9, kLeaf));
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(9, 4), std::string(4, '\0'));
}

TEST_F(Buffers, OneReadAndOneCheckForAllWhoWait) {
  Gate gate;
  faults_->add({.operation = Fault::Operation::kRead,
                .effect = Fault::Effect::kHold,
                .times = Fault::kForever,
                .held = [&] { gate.pass(); }});
  std::atomic<int> checks = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      EXPECT_TRUE(cache_.get(5, kLeaf, [&](std::span<const std::byte>) -> Result<void> {
        ++checks;
        return {};
      }));
    });
  }
  gate.open();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(faults_->strikes(), 1U);
  EXPECT_EQ(checks, 1);
}

TEST_F(Buffers, NeighboursAreReadAheadInOneRequest) {
  count_reads();
  cache_.read_ahead(100, 32);
  EXPECT_EQ(faults_->strikes(), 1U);
  for (std::uint64_t block = 100; block < 132; ++block) EXPECT_TRUE(cache_.get(block));
  EXPECT_EQ(faults_->strikes(), 1U);
  EXPECT_TRUE(cache_.has(131));
  EXPECT_FALSE(cache_.has(132));
  cache_.read_ahead(100, 32);
  EXPECT_EQ(faults_->strikes(), 1U);
  // Around what is here; up to the device's end and not behind it.
  EXPECT_TRUE(cache_.get(210));
  cache_.read_ahead(200, 32);
  EXPECT_EQ(faults_->strikes(), 4U);
  cache_.read_ahead(kBlocks - 2, 32);
  EXPECT_EQ(faults_->strikes(), 5U);
  EXPECT_EQ(cache_.cached_blocks(), 66U);
  // A failure is told to whoever wants the block, and is not kept.
  faults_->clear();
  faults_->add({.operation = Fault::Operation::kRead, .offset = 305 * kBlock, .length = 1, .times = 2});
  cache_.read_ahead(300, 8);
  EXPECT_EQ(cache_.cached_blocks(), 66U);
  EXPECT_EQ(cache_.get(305).error(), Errno(EIO));
  EXPECT_TRUE(cache_.get(305));
}

// Counted where they lie, whatever comes and goes.
TEST_F(Buffers, TheFirstThatIsHere) {
  const auto first = [&](std::uint64_t from, std::uint64_t count) {
    const auto found = cache_.first_cached(from, count);
    return found ? found->block : 0;
  };
  EXPECT_EQ(first(0, kBlocks), 0U);
  put_block(37, "x");
  EXPECT_TRUE(cache_.get(300, kLeaf, [](std::span<const std::byte>) -> Result<void> { return {}; }));
  EXPECT_EQ(first(0, kBlocks), 37U);
  EXPECT_EQ(first(0, 37), 0U);
  EXPECT_EQ(first(37, 1), 37U);
  EXPECT_EQ(first(38, kBlocks - 38), 300U);
  EXPECT_EQ(first(38, 262), 0U);
  EXPECT_EQ(cache_.first_cached(290, 20)->role, kLeaf);
  cache_.forget(30, 16);
  EXPECT_EQ(first(0, kBlocks), 300U);
  cache_.forget(0, kBlocks);
  EXPECT_EQ(first(0, kBlocks), 0U);
}

TEST_F(Buffers, AreWrittenInOrderAndInLongPieces) {
  for (const std::uint64_t block : {900, 5, 3, 7, 4, 901}) put_block(block, "x");
  for (std::uint64_t block = 1000; block < 1300; ++block) put_block(block, "y");
  EXPECT_EQ(cache_.dirty_blocks(), 306U);
  ASSERT_TRUE(cache_.flush());
  const std::vector<std::string> expected = {"W 12288+12288", "W 28672+4096", "W 3686400+8192",
                                             "W 4096000+1048576", "W 5144576+180224"};
  EXPECT_EQ(recording_->take_lines(), expected);
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
  ASSERT_TRUE(cache_.flush());
  put_block(4, "z");
  ASSERT_TRUE(cache_.write(4 * kBlock + 1, std::as_bytes(std::span("\0\0", 2))));
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(recording_->take_lines(), std::vector<std::string>{"W 16384+4096"});
}

TEST_F(Buffers, WhatCannotBeWrittenStaysAndIsNamed) {
  for (std::uint64_t block = 10; block < 20; ++block) put_block(block, "x");
  put_block(50, "x");
  faults_->add({.offset = 13 * kBlock, .length = 2 * kBlock, .times = Fault::kForever});
  for (int tries = 0; tries < 2; ++tries) {
    const auto flushed = cache_.flush();
    ASSERT_FALSE(flushed);
    EXPECT_EQ(flushed.error().first, 13U);
    EXPECT_EQ(flushed.error().count, 2U);
    EXPECT_EQ(flushed.error().error, Errno(EIO));
    EXPECT_EQ(cache_.dirty_blocks(), 2U);
  }
  EXPECT_EQ(on_device(12, 1), "x");
  EXPECT_EQ(on_device(13, 1), std::string(1, '\0'));
  EXPECT_EQ(on_device(19, 1), "x");
  EXPECT_EQ(on_device(50, 1), "x");
  faults_->clear();
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(14, 1), "x");
}

TEST_F(Buffers, AChangeGoesOnWhileTheBlockIsWritten) {
  put_block(3, "old");
  Gate writing;
  Gate go_on;
  faults_->add({.effect = Fault::Effect::kHold, .held = [&] {
                  writing.open();
                  go_on.pass();
                }});
  std::thread flusher([&] { EXPECT_TRUE(cache_.flush()); });
  writing.pass();
  {
    auto buffer = cache_.get(3);
    ASSERT_TRUE(buffer);
    const auto before = buffer->bytes();
    EXPECT_EQ(text_of(before, 3), "old");
    put(*buffer, "new");
    EXPECT_EQ(text_of(buffer->bytes(), 3), "new");
    // The device is still reading these.
    EXPECT_EQ(text_of(before, 3), "old");
  }
  EXPECT_EQ(cache_.dirty_blocks(), 1U);
  go_on.open();
  flusher.join();
  EXPECT_EQ(on_device(3, 3), "old");
  EXPECT_EQ(cache_.dirty_blocks(), 1U);
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(3, 3), "new");
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
}

// A write that fails leaves the block due, also where it was changed in the meantime.
TEST_F(Buffers, AFailureWhileItWasChanged) {
  put_block(3, "old");
  faults_->add({.effect = Fault::Effect::kHold, .held = [&] { put_block(3, "new"); }});
  faults_->add({.effect = Fault::Effect::kFail});
  EXPECT_FALSE(cache_.flush());
  EXPECT_EQ(cache_.dirty_blocks(), 1U);
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(3, 3), "new");
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
}

TEST_F(Buffers, HalfAChangeIsNotWritten) {
  put_block(2, "before");
  put_block(3, "before");
  std::thread flusher;
  {
    auto buffer = cache_.get(3);
    ASSERT_TRUE(buffer);
    const auto change = buffer->change();
    ASSERT_TRUE(change);
    std::memcpy(change->bytes().data(), "aft", 3);
    Gate near_by;
    faults_->add({.effect = Fault::Effect::kHold, .held = [&] { near_by.open(); }});
    flusher = std::thread([&] { EXPECT_TRUE(cache_.flush()); });
    // Block 2 was not kept waiting with it.
    near_by.pass();
    faults_->clear();
    EXPECT_EQ(on_device(3, 1), std::string(1, '\0'));
    std::memcpy(change->bytes().data() + 3, "er", 2);
  }
  flusher.join();
  EXPECT_EQ(on_device(3, 6), "aftere");
  EXPECT_EQ(recording_->take_lines(), (std::vector<std::string>{"W 8192+4096", "W 12288+4096"}));
}

// Whoever forgets a block may give it to a file: nothing of the old is written over that later.
TEST_F(Buffers, ForgettingWaitsForTheWriteThatIsUnderWay) {
  put_block(3, "metadata");
  Gate writing;
  Gate forgotten;
  faults_->add({.effect = Fault::Effect::kHold, .held = [&] {
                  writing.open();
                  // Never, if all is well.
                  (void)forgotten.pass_within(std::chrono::milliseconds(200));
                }});
  std::thread flusher([&] { EXPECT_TRUE(cache_.flush()); });
  writing.pass();
  cache_.forget(3, 1);
  memory_->write(3 * kBlock, "filedata");
  forgotten.open();
  flusher.join();
  ASSERT_TRUE(cache_.flush());
  EXPECT_EQ(on_device(3, 8), "filedata");
}

// Of any length, and no block more.
TEST_F(Buffers, ForgettingARangeIsExact) {
  std::mt19937 random(3);
  std::vector<bool> here(kBlocks);
  for (int step = 0; step < 300; ++step) {
    for (int i = 0; i < 40; ++i) {
      // In clusters, as metadata lies.
      const std::uint64_t block = (random() % 8 * 256 + random() % 24) % kBlocks;
      ASSERT_TRUE(cache_.get(block));
      here[block] = true;
    }
    const std::uint64_t first = random() % kBlocks;
    const std::uint64_t count = random() % (random() % 2 == 0 ? 40 : kBlocks);
    cache_.forget(first, count);
    for (std::uint64_t block = first; block < std::min<std::uint64_t>(first + count, kBlocks); ++block)
      here[block] = false;
    for (std::uint64_t block = 0; block < kBlocks; ++block)
      ASSERT_EQ(cache_.has(block), here[block]) << "step " << step << ", block " << block;
  }
}

// Steps over what is not there are long, however far it goes.
TEST(BlockRegionsTest, AreFoundInOrder) {
  BlockRegions regions;
  constexpr std::uint64_t kFar = std::uint64_t{1} << 40;
  regions.add(1000);
  regions.add(kFar + 37);
  EXPECT_EQ(regions.next(0, 900), 900U);
  EXPECT_LE(regions.next(0, 2000), 1000U);
  EXPECT_EQ(regions.next(1000, 2000), 1000U);
  EXPECT_LE(regions.next(kFar, kFar + 100), kFar + 37);
  EXPECT_EQ(BlockRegions::end_of_run(1000), 1008U);
  EXPECT_EQ(regions.next(1008, 4000), 4000U);
  regions.remove(1000);
  EXPECT_EQ(regions.next(1000, 1001), 1001U);
}

TEST_F(Buffers, AHandleOfAForgottenBlockIsForNobody) {
  auto buffer = cache_.get(3);
  ASSERT_TRUE(buffer);
  put(*buffer, "x");
  cache_.forget(0, kBlocks);
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
  EXPECT_EQ(cache_.cached_blocks(), 0U);
  put(*buffer, "y");
  EXPECT_EQ(text_of(buffer->bytes(), 1), "y");
  EXPECT_EQ(text_of(cache_.get(3)->bytes(), 1), std::string(1, '\0'));
  EXPECT_EQ(cache_.dirty_blocks(), 0U);
  ASSERT_TRUE(cache_.flush());
  EXPECT_TRUE(recording_->take_lines().empty());
}

TEST_F(Buffers, APinnedOneWaitsForItsJournal) {
  BufferCache small(device_, kBlock, {.limit = 16 * kBlock});
  {
    auto buffer = small.get(3);
    ASSERT_TRUE(buffer);
    put(*buffer, "in the journal");
    buffer->pin();
  }
  for (std::uint64_t block = 100; block < 200; ++block) EXPECT_TRUE(small.get(block));
  ASSERT_TRUE(small.flush());
  EXPECT_TRUE(recording_->take_lines().empty());
  {
    auto buffer = small.get(3);
    EXPECT_EQ(text_of(buffer->bytes(), 6), "in the");
    buffer->unpin();
  }
  ASSERT_TRUE(small.flush());
  EXPECT_EQ(recording_->take_lines(), std::vector<std::string>{"W 12288+4096"});
}

TEST_F(Buffers, StayWithinTheirLimit) {
  BufferCache small(device_, kBlock, {.limit = 64 * kBlock});
  std::vector<Buffer> held;
  for (std::uint64_t block = 0; block < 20; ++block) held.push_back(std::move(*small.get(block)));
  for (std::uint64_t block = 100; block < 600; ++block) {
    auto buffer = small.get(block);
    ASSERT_TRUE(buffer);
    if (block % 2 == 0) put(*buffer, std::to_string(block));
    EXPECT_LE(small.cached_blocks(), 64U);
    // Much is dirty: it is written without anybody asking.
    EXPECT_LE(small.dirty_blocks(), 34U);
  }
  small.read_ahead(1000, 500);
  EXPECT_LE(small.cached_blocks(), 64U);
  for (std::uint64_t block = 100; block < 600; block += 2)
    EXPECT_EQ(text_of(small.get(block)->bytes(), 3), std::to_string(block));
  // Handles outlast it all.
  count_reads();
  for (auto& buffer : held) EXPECT_EQ(small.get(buffer.block())->bytes().data(), buffer.bytes().data());
  EXPECT_EQ(faults_->strikes(), 0U);
}

// However much may be here.
TEST_F(Buffers, FewAreDirty) {
  BufferCache cache(device_, kBlock, {.limit = kBlocks * kBlock, .dirty_limit = 8 * kBlock});
  for (std::uint64_t block = 0; block < 200; ++block) {
    auto buffer = cache.get(block);
    ASSERT_TRUE(buffer);
    put(*buffer, std::to_string(block));
    EXPECT_LE(cache.dirty_blocks(), 10U);
  }
  EXPECT_EQ(cache.cached_blocks(), 200U);
}

TEST_F(Buffers, ShrinkUnderPressure) {
  BufferCache cache(device_, kBlock, {.limit = kBlocks * kBlock, .recovery = std::chrono::hours(1)});
  cache.read_ahead(0, kBlocks);
  for (std::uint64_t block = 0; block < kBlocks; ++block) EXPECT_TRUE(cache.get(block));
  {
    auto buffer = cache.get(5);
    put(*buffer, "kept");
  }
  EXPECT_EQ(cache.cached_blocks(), kBlocks);
  EXPECT_GE(cache.shrink(), kBlocks / 2 * kBlock);
  EXPECT_LE(cache.cached_blocks(), kBlocks / 2);
  EXPECT_EQ(on_device(5, 4), "kept");
  for (std::uint64_t block = 0; block < kBlocks; ++block) EXPECT_TRUE(cache.get(block));
  EXPECT_LE(cache.cached_blocks(), kBlocks / 2);
  // Once that is long ago, it takes what it may again.
  BufferCache patient(device_, kBlock, {.limit = kBlocks * kBlock, .recovery = {}});
  patient.shrink();
  for (std::uint64_t block = 0; block < kBlocks; ++block) EXPECT_TRUE(patient.get(block));
  EXPECT_EQ(patient.cached_blocks(), kBlocks);
}

// Each thread counts in its own bytes of blocks that all of them change, while they are written, evicted and
// read again: no count is ever lost, in memory or on the device.
TEST_F(Buffers, ManyThreadsLoseNothing) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kShared = 96;
  constexpr int kRounds = 4000;
  BufferCache small(device_, kBlock, {.limit = 48 * kBlock});
  std::vector<std::vector<std::uint32_t>> counts(kThreads, std::vector<std::uint32_t>(kShared));
  std::atomic<bool> done = false;
  const auto count_in = [](std::span<const std::byte> bytes, std::size_t thread) {
    std::uint32_t count = 0;
    std::memcpy(&count, bytes.data() + thread * sizeof count, sizeof count);
    return count;
  };
  std::thread flusher([&] {
    while (!done) EXPECT_TRUE(small.flush());
  });
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(static_cast<unsigned>(thread));
      for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t block = random() % kShared;
        auto buffer = small.get(block, kLeaf, [](std::span<const std::byte>) -> Result<void> { return {}; });
        ASSERT_TRUE(buffer);
        ASSERT_EQ(count_in(buffer->bytes(), thread), counts[thread][block]);
        const auto change = buffer->change();
        ASSERT_TRUE(change);
        const std::uint32_t next = ++counts[thread][block];
        std::memcpy(change->bytes().data() + thread * sizeof next, &next, sizeof next);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  done = true;
  flusher.join();
  ASSERT_TRUE(small.flush());
  EXPECT_EQ(small.dirty_blocks(), 0U);
  for (std::uint64_t block = 0; block < kShared; ++block) {
    const auto bytes = on_device(block, kThreads * sizeof(std::uint32_t));
    for (std::size_t thread = 0; thread < kThreads; ++thread)
      EXPECT_EQ(count_in(std::as_bytes(std::span(bytes)), thread), counts[thread][block]);
  }
}

}  // namespace
}  // namespace fuse4fs::cache
