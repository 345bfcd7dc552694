// SPDX-License-Identifier: GPL-2.0-or-later
// What the others do while the device discards, and what becomes of blocks that it does not.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "server/ext4/unreleased.h"
#include "tests/devices/faulty_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

using cache::Fault;

constexpr std::uint64_t kBlock = 4096;

class DiscardTest : public testing::Test {
 protected:
  void SetUp() override {
    volume_.wrap_device = [&](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::FaultyBackend>(std::move(device), faults_);
    };
    volume_.mount();
  }

  // Every discard is held up until let_go().
  void hold_up() {
    faults_->add({.operation = Fault::Operation::kDiscard,
                  .effect = Fault::Effect::kHold,
                  .times = Fault::kForever,
                  .held = [this] {
                    if (!has_reached_.exchange(true)) reached_.set_value();
                    released_.wait();
                  }});
  }
  void wait_until_held_up() { reached_.get_future().wait(); }
  void let_go() { release_.set_value(); }

  // Its first block.
  std::uint64_t place_of(const std::string& path) { return std::stoull(volume_.debugfs("blocks " + path)); }

  // One group.
  TestVolume volume_{"-t ext4 -b 4096 -O ^has_journal"};
  std::shared_ptr<cache::Faults> faults_ = std::make_shared<cache::Faults>();
  std::atomic<bool> has_reached_{false};
  std::promise<void> reached_, release_;
  std::shared_future<void> released_{release_.get_future()};
};

TEST_F(DiscardTest, OthersAllocateInItsGroup) {
  constexpr std::uint64_t kRange = 32 << 20;
  auto& fs = volume_.fs();
  hold_up();
  auto trimmed = std::async(std::launch::async, [&] { return fs.trim({0, kRange}, 0); });
  wait_until_held_up();
  const std::string content(64 << 10, 'c');
  volume_.write(volume_.make_file(kRootInode, "meanwhile"), 0, content);
  ASSERT_TRUE(fs.sync());
  // Nor are they counted as used.
  const auto free = fs.statistics()->free_blocks;
  let_go();
  EXPECT_GT(trimmed.get().value(), kRange / 2);
  EXPECT_EQ(fs.statistics()->free_blocks, free);
  const auto file = volume_.make_file(kRootInode, "afterwards");
  volume_.write(file, 0, content);
  EXPECT_EQ(volume_.read(fs.lookup(kRootInode, "meanwhile")->inode, 0, content.size()), content);
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_GE(place_of("/meanwhile"), kRange / kBlock);
  EXPECT_LT(place_of("/afterwards"), kRange / kBlock);
}

TEST_F(DiscardTest, WhereNothingElseIsFreeItIsWaitedFor) {
  auto& fs = volume_.fs();
  const auto file = volume_.make_file(kRootInode, "file");
  hold_up();
  auto trimmed = std::async(std::launch::async, [&] { return fs.trim({0, UINT64_MAX}, 0); });
  wait_until_held_up();
  auto written = std::async(std::launch::async, [&] { volume_.write(file, 0, "content"); });
  // It cannot end before: however short this is.
  EXPECT_NE(written.wait_for(std::chrono::milliseconds(50)), std::future_status::ready);
  let_go();
  written.get();
  EXPECT_GT(trimmed.get().value(), 1U << 20);
  EXPECT_EQ(volume_.read(file, 0, 7), "content");
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_F(DiscardTest, OneThatFailsGivesItsBlocksBack) {
  auto& fs = volume_.fs();
  const auto free = fs.statistics()->free_blocks;
  faults_->add({.operation = Fault::Operation::kDiscard, .error = EIO});
  EXPECT_EQ(fs.trim({0, UINT64_MAX}, 0).error(), Errno(EIO));
  // More than a half: some of it would be missing.
  const auto file = volume_.make_file(kRootInode, "file");
  AttributeChanges unused;
  ASSERT_TRUE(fs.change_range(file, RangeChange::kAllocate, {0, (free - 1000) * kBlock}, EndOfFile::kMayMove,
                              AttributeChanges::Privileges::kKeep));
  ASSERT_TRUE(fs.unlink(kRootInode, "file"));
  fs.forget(file, 1);
  EXPECT_GT(fs.trim({0, UINT64_MAX}, 0).value(), (free - 1000) * kBlock) << "what failed is not called done";
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST(UnreleasedDiscards, TakeBlocksOutUntilTheyEnd) {
  Unreleased unreleased;
  EXPECT_EQ(unreleased.discards_begun(), 0U);
  {
    Unreleased::Discard discard(unreleased);
    discard.add(10, 10);
    Unreleased::Discard another(unreleased);
    another.add(30, 5);
    EXPECT_EQ(unreleased.blocks(), 15U);
    const auto free = unreleased.first_free(12, 40);
    EXPECT_EQ(free.first, 20U);
    EXPECT_EQ(free.end, 30U);
    EXPECT_TRUE(unreleased.is_empty()) << "no write-back would help";
    unreleased.begin();
    unreleased.release();
    EXPECT_EQ(unreleased.blocks(), 15U);
    EXPECT_EQ(unreleased.discards_begun(), 2U);
    EXPECT_EQ(unreleased.discards_ended(), 0U);
  }
  EXPECT_EQ(unreleased.discards_ended(), 2U);
  EXPECT_EQ(unreleased.first_free(12, 40).first, 12U);
}

TEST(UnreleasedDiscards, WaitForThoseWhoWantNone) {
  Unreleased unreleased;
  std::optional<Unreleased::Discard> discard(std::in_place, unreleased);
  discard->add(10, 10);
  auto none = std::async(std::launch::async, [&] {
    const Unreleased::NoDiscards no_discards(unreleased);
    const auto begun = unreleased.discards_begun();
    auto later = std::async(std::launch::async, [&] { const Unreleased::Discard waits(unreleased); });
    EXPECT_EQ(unreleased.blocks(), 0U);
    std::this_thread::yield();
    EXPECT_EQ(unreleased.discards_begun(), begun);
    return later;
  });
  discard.reset();
  none.get().get();
  EXPECT_EQ(unreleased.discards_ended(), 2U);
}

// -o discard.
class FreedIsDiscarded : public testing::Test {
 protected:
  using Operation = cache::Recording::Operation;

  void mount(MountOptions::Discards discards) {
    volume_.wrap_device = [&](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::RecordingBackend>(
          std::make_unique<cache::FaultyBackend>(std::move(device), faults_), recording_);
    };
    volume_.mount({.discards = discards});
  }
  // Bytes that were discarded, and in how many requests.
  struct Discarded {
    std::uint64_t bytes = 0;
    int requests = 0;
  };
  [[nodiscard]] Discarded discarded() const {
    Discarded sum;
    for (const auto& operation : recording_->operations()) {
      if (operation.kind != Operation::Kind::kDiscard) continue;
      sum.bytes += operation.length;
      ++sum.requests;
    }
    return sum;
  }
  void make(const std::string& name, std::size_t blocks) {
    volume_.write(volume_.make_file(kRootInode, name), 0, std::string(blocks * kBlock, 'f'));
  }
  void remove(const std::string& name) {
    const auto file = volume_.fs().lookup(kRootInode, name);
    ASSERT_TRUE(volume_.fs().unlink(kRootInode, name));
    volume_.fs().forget(file->inode, 2);
  }

  TestVolume volume_{"-t ext4 -b 4096 -O ^has_journal"};
  std::shared_ptr<cache::Faults> faults_ = std::make_shared<cache::Faults>();
  std::shared_ptr<cache::Recording> recording_ = std::make_shared<cache::Recording>();
};

TEST_F(FreedIsDiscarded, OnceItsReleaseIsOnTheMediumAndInOneRequest) {
  mount(MountOptions::Discards::kWhatIsFreed);
  auto& fs = volume_.fs();
  // Longer than what is free between the volume's own blocks.
  for (const char* const name : {"a", "b", "c"}) make(name, 500);
  ASSERT_TRUE(fs.sync());
  EXPECT_EQ(discarded().requests, 0);
  for (const char* const name : {"b", "a", "c"}) remove(name);
  EXPECT_EQ(discarded().requests, 0);
  ASSERT_TRUE(fs.sync());
  EXPECT_EQ(discarded().requests, 1) << testing::PrintToString(recording_->take_lines());
  EXPECT_EQ(discarded().bytes, 1500 * kBlock);
  const auto& operations = recording_->operations();
  const auto last = std::ranges::find(operations, Operation::Kind::kDiscard, &Operation::kind);
  ASSERT_NE(last, operations.begin());
  EXPECT_EQ(std::prev(last)->kind, Operation::Kind::kFlush);
  // It is to be had again, and that is not discarded.
  const std::string content(800 * kBlock, 'n');
  const auto file = volume_.make_file(kRootInode, "new");
  volume_.write(file, 0, content);
  ASSERT_TRUE(fs.sync());
  EXPECT_EQ(discarded().requests, 1);
  EXPECT_EQ(volume_.read(file, 0, content.size()), content);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_F(FreedIsDiscarded, OnlyWhereThatWasAskedFor) {
  mount(MountOptions::Discards::kOnRequest);
  make("a", 10);
  remove("a");
  ASSERT_TRUE(volume_.fs().sync());
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_EQ(discarded().requests, 0);
}

TEST_F(FreedIsDiscarded, ADeviceThatCannotIsToldOfOnceAndNotAskedAgain) {
  mount(MountOptions::Discards::kWhatIsFreed);
  faults_->add({.operation = Fault::Operation::kDiscard, .times = Fault::kForever, .error = EOPNOTSUPP});
  for (int i = 0; i < 3; ++i) {
    make("a", 10);
    make("kept", 1);
    remove("a");
    remove("kept");
    ASSERT_TRUE(volume_.fs().sync());
  }
  EXPECT_EQ(faults_->strikes(), 1U);
  EXPECT_EQ(
      std::ranges::count_if(volume_.events.notices,
                            [](const auto& words) { return words.find("discard") != std::string::npos; }),
      1);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

// Where nothing else is left, who asks for it writes back himself.
TEST_F(FreedIsDiscarded, OnAFullVolume) {
  mount(MountOptions::Discards::kWhatIsFreed);
  auto& fs = volume_.fs();
  const std::string much(1 << 20, 'm');
  const auto fill = [&](const std::string& name) {
    const auto file = volume_.make_file(kRootInode, name);
    std::uint64_t size = 0;
    while (fs.write(file, size, std::as_bytes(std::span(much)), {})) size += much.size();
    return size;
  };
  const auto first = fill("first");
  EXPECT_GT(first, 30U << 20);
  remove("first");
  EXPECT_GE(fill("second"), first);
  EXPECT_GE(discarded().bytes, first);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST(UnreleasedDiscards, GetWhatIsReleased) {
  Unreleased unreleased;
  unreleased.add_blocks(10, 10);
  unreleased.begin();
  unreleased.add_blocks(30, 5);
  auto discard = unreleased.release_to_discard();
  ASSERT_TRUE(discard);
  EXPECT_EQ(discard->blocks().count(), 10U);
  EXPECT_EQ(unreleased.first_free(10, 40).first, 20U);
  EXPECT_EQ(unreleased.discards_begun(), 1U);
  discard.reset();
  EXPECT_EQ(unreleased.discards_ended(), 1U);
  EXPECT_EQ(unreleased.first_free(10, 40).first, 10U);
  EXPECT_EQ(unreleased.first_free(10, 40).end, 30U);
  EXPECT_FALSE(unreleased.release_to_discard()) << "there is nothing";
  const Unreleased::NoDiscards no_discards(unreleased);
  unreleased.begin();
  EXPECT_FALSE(unreleased.release_to_discard()) << "nobody may wait for it now";
  EXPECT_EQ(unreleased.blocks(), 0U);
}

}  // namespace
}  // namespace fuse4fs::ext4
