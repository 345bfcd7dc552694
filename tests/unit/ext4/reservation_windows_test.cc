// SPDX-License-Identifier: GPL-2.0-or-later
// Windows behind files that grow: what is written side by side does not lie mixed, nothing is lost to them,
// and small files lie close together.
#include "server/ext4/reservation_windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <sstream>
#include <thread>

#include "tests/devices/recording_backend.h"
#include "tests/unit/ext4/open_volume.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

void expect_run(BlockRun run, std::uint64_t first, std::uint64_t end) {
  EXPECT_EQ(run.first, first);
  EXPECT_EQ(run.end(), end);
}

TEST(ReservationWindows, AreInTheWayOfOthersOnly) {
  ReservationWindows windows;
  windows.take(12, {100, 10}, 50);
  windows.take(13, {160, 10}, 30);
  EXPECT_EQ(windows.size(), 2U);
  expect_run(windows.first_free({100, 100}, 0), 100, 110);
  expect_run(windows.first_free({120, 100}, 0), 160, 170);
  expect_run(windows.first_free({180, 100}, 0), 200, 280);
  expect_run(windows.first_free({120, 20}, 0), 140, 140);
  expect_run(windows.first_free({100, 100}, 12), 100, 170);
  expect_run(windows.first_free({120, 100}, 13), 160, 220);
  expect_run(windows.first_free({300, 5}, 0), 300, 305);
  expect_run(windows.rest(12, 150), 150, 160);
  expect_run(windows.rest(12, 160), 160, 160);
  expect_run(windows.rest(14, 150), 150, 150);
  windows.forget(12);
  expect_run(windows.first_free({100, 100}, 0), 100, 170);
  EXPECT_TRUE(windows.forget_all());
  EXPECT_FALSE(windows.forget_all());
  expect_run(windows.first_free({100, 100}, 0), 100, 200);
}

TEST(ReservationWindows, MoveWithTheirFileAndEndWhereOthersBegin) {
  ReservationWindows windows;
  windows.take(12, {100, 10}, 50);
  // Out of order, within the window: what lies between stays.
  windows.take(12, {130, 10}, 50);
  expect_run(windows.first_free({100, 200}, 0), 100, 110);
  expect_run(windows.rest(12, 110), 110, 190);
  // Elsewhere: the old one goes.
  windows.take(12, {1000, 10}, 50);
  expect_run(windows.first_free({100, 200}, 0), 100, 300);
  expect_run(windows.rest(12, 1010), 1010, 1060);
  windows.take(13, {980, 10}, 50);
  expect_run(windows.rest(13, 990), 990, 1010);
  windows.take(14, {1000, 20}, 50);
  expect_run(windows.rest(14, 1020), 1020, 1020);
  EXPECT_EQ(windows.size(), 2U) << "none inside of another's";
}

TEST(ReservationWindows, AreForgottenWhenTheyAreNotUsedAndWhenTheyAreMany) {
  ReservationWindows windows;
  windows.take(12, {100, 10}, 50);
  windows.age();
  windows.take(13, {200, 10}, 50);
  EXPECT_EQ(windows.size(), 2U);
  windows.age();
  EXPECT_EQ(windows.size(), 1U);
  EXPECT_EQ(windows.rest(12, 110).count, 0U);
  windows.take(13, {210, 10}, 50);
  windows.age();
  EXPECT_EQ(windows.size(), 1U);
  for (InodeNumber owner = 100; owner < 100 + ReservationWindows::kMost; ++owner)
    windows.take(owner, {std::uint64_t{owner} * 1000, 10}, 50);
  EXPECT_EQ(windows.size(), ReservationWindows::kMost);
  EXPECT_EQ(windows.rest(13, 220).count, 0U) << "the one that was not used for longest";
}

class Growing : public testing::Test {
 protected:
  static constexpr std::size_t kPiece = 64 << 10;

  void append(InodeNumber file, std::size_t length) {
    const auto size = volume_.fs().attributes(file)->size;
    volume_.write(file, size, std::string(length, 'a'));
  }
  // Of a file after the unmount.
  std::size_t extents_of(const std::string& path) {
    std::istringstream blocks(volume_.debugfs("blocks " + path));
    std::size_t extents = 0;
    for (std::uint64_t block = 0, before = 0; blocks >> block; before = block) extents += block != before + 1;
    return extents;
  }

  TestVolume volume_{"-t ext4 -b 4096 -O ^has_journal", "256M"};
};

TEST_F(Growing, FilesWrittenSideBySideDoNotLieMixed) {
  volume_.mount();
  constexpr int kFiles = 4;
  std::vector<InodeNumber> files;
  for (int i = 0; i < kFiles; ++i) files.push_back(volume_.make_file(kRootInode, fmt::format("{}", i)));
  for (int piece = 0; piece < 256; ++piece) {
    for (const auto file : files) append(file, kPiece);
  }
  EXPECT_EQ(volume_.unmount_and_check(), "");
  // 16 MiB each: a window doubles until it has 8 MiB.
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_GE(extents_of(fmt::format("/{}", i)), 1U);
    EXPECT_LE(extents_of(fmt::format("/{}", i)), 10U);
  }
}

TEST_F(Growing, ThreadsToo) {
  auto& fs = volume_.mount();
  const std::string bytes(kPiece, 't');
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, file = volume_.make_file(kRootInode, fmt::format("{}", i))] {
        for (std::uint64_t piece = 0; piece < 128; ++piece)
          ASSERT_TRUE(fs.write(file, piece * kPiece, std::as_bytes(std::span(bytes)), {}));
      });
    }
  }
  EXPECT_EQ(volume_.unmount_and_check(), "");
  for (int i = 0; i < 3; ++i) EXPECT_LE(extents_of(fmt::format("/{}", i)), 10U);
}

// As the kernel's write-back sends it to a server with several threads. A piece that comes before the one in
// front of it leaves room for that.
TEST_F(Growing, OutOfOrderToo) {
  auto& fs = volume_.mount();
  const auto file = volume_.make_file(kRootInode, "file");
  const auto other = volume_.make_file(kRootInode, "other");
  const std::string bytes(kPiece, 'o');
  std::vector<std::uint64_t> pieces(128);
  std::iota(pieces.begin(), pieces.end(), 0);
  std::mt19937 random(5);
  for (std::size_t i = 4; i + 4 <= pieces.size(); i += 4) std::shuffle(&pieces[i], &pieces[i] + 4, random);
  for (const std::uint64_t piece : pieces) {
    ASSERT_TRUE(fs.write(file, piece * kPiece, std::as_bytes(std::span(bytes)), {}));
    append(other, kPiece);
  }
  EXPECT_EQ(volume_.unmount_and_check(), "");
  EXPECT_LE(extents_of("/file"), 32U) << volume_.debugfs("stat /file");
  EXPECT_LE(extents_of("/other"), 10U);
}

TEST_F(Growing, SmallFilesLieCloseTogether) {
  volume_.mount();
  std::uint64_t first = 0;
  for (int i = 0; i < 100; ++i) {
    const auto file = volume_.make_file(kRootInode, fmt::format("{}", i));
    append(file, 10'000);
    // Twice, but a few blocks all the same.
    append(file, 1'000);
  }
  EXPECT_EQ(volume_.unmount_and_check(), "");
  for (int i = 0; i < 100; ++i) {
    std::istringstream blocks(volume_.debugfs(fmt::format("blocks /{}", i)));
    for (std::uint64_t block = 0, n = 0; blocks >> block; ++n) {
      if (i == 0 && n == 0) first = block;
      EXPECT_EQ(block, first + static_cast<std::uint64_t>(i) * 3 + n);
    }
  }
}

TEST_F(Growing, AFullVolumeTakesTheLastBlock) {
  auto& fs = volume_.mount();
  std::vector<InodeNumber> files;
  for (int i = 0; i < 8; ++i) {
    files.push_back(volume_.make_file(kRootInode, fmt::format("{}", i)));
    append(files.back(), kPiece);
    append(files.back(), kPiece);
  }
  // Free and told as such, whoever they are left to.
  const auto free = fs.statistics()->free_blocks;
  append(files[0], kPiece);
  EXPECT_EQ(fs.statistics()->free_blocks, free - kPiece / 4096);
  const std::string block(4096, 'l');
  const auto last = volume_.make_file(kRootInode, "last");
  const std::string much(1 << 20, 'm');
  std::uint64_t size = 0;
  while (fs.write(last, size, std::as_bytes(std::span(much)), {})) size += much.size();
  while (fs.write(last, size, std::as_bytes(std::span(block)), {})) size += block.size();
  // What is kept for maps: a fiftieth of all blocks.
  EXPECT_LE(fs.statistics()->free_blocks, 65536U / 50);
  EXPECT_EQ(volume_.unmount_and_check(), "");
}

TEST_F(Growing, WindowsGoWithTheirFiles) {
  OpenVolume open(volume_);
  auto& windows = open.volume().reservations();
  auto& blocks = open.metadata().blocks;
  const auto grown = [&](InodeNumber owner) {
    const auto run =
        open.changing([&] { return blocks.take({.goal = 9000, .most = 4, .owner = owner, .ahead = 16}); });
    ASSERT_TRUE(run);
  };
  grown(12);
  grown(13);
  EXPECT_EQ(windows.size(), 2U);
  (void)open.metadata().inodes.forget(12, 1);
  EXPECT_EQ(windows.size(), 1U);
  // Nothing else is left: they go as well.
  while (open.changing([&] { return blocks.take(0, 1 << 16); }) ||
         open.changing([&] { return blocks.take_for_map(0); })) {
  }
  EXPECT_EQ(blocks.free_blocks(), 0U);
  EXPECT_EQ(windows.size(), 0U);
}

TEST_F(Growing, CostsNoWritesMore) {
  const auto count_writes = [](bool side_by_side) {
    auto recording = std::make_shared<cache::Recording>();
    TestVolume volume("-t ext4 -b 4096 -O ^has_journal", "64M");
    volume.wrap_device = [&](TestVolume::Backend device) -> TestVolume::Backend {
      return std::make_unique<cache::RecordingBackend>(std::move(device), recording);
    };
    auto& fs = volume.mount();
    const InodeNumber files[] = {volume.make_file(kRootInode, "a"), volume.make_file(kRootInode, "b")};
    const std::string bytes(kPiece, 'w');
    const auto write = [&](int file, std::uint64_t piece) {
      EXPECT_TRUE(fs.write(files[file], piece * kPiece, std::as_bytes(std::span(bytes)), {}));
    };
    for (int i = 0; i < 128; ++i) side_by_side ? write(i % 2, i / 2) : write(i / 64, i % 64);
    EXPECT_TRUE(fs.sync());
    EXPECT_EQ(volume.unmount_and_check(), "");
    return std::ranges::count_if(recording->operations(), [](const auto& operation) {
      return operation.kind == cache::Recording::Operation::Kind::kWrite;
    });
  };
  const auto side_by_side = count_writes(true);
  EXPECT_GE(side_by_side, 128);
  EXPECT_LE(side_by_side, count_writes(false) + 1);
}

}  // namespace
}  // namespace fuse4fs::ext4
