// SPDX-License-Identifier: GPL-2.0-or-later
// What the others do while the device discards, and what becomes of blocks that it does not.
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "server/ext4/unreleased.h"
#include "tests/devices/faulty_backend.h"
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

}  // namespace
}  // namespace fuse4fs::ext4
