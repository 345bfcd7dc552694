// SPDX-License-Identifier: GPL-2.0-or-later
// Maps of files under random changes, beside a model of one entry a block; e2fsck judges the trees.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

using Kind = Mapping::Kind;

struct Form {
  const char* name;
  const char* options;
  bool extents = true;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class ExtentMapTest : public testing::TestWithParam<Form> {
 protected:
  struct Block {
    std::uint64_t physical = 0;
    Kind kind = Kind::kHole;
    bool operator==(const Block&) const = default;
  };

  void SetUp() override {
    files_.mount();
    number_ = files_.make_file(kRootInode, "file");
    ASSERT_EQ(files_.unmount_and_check(), "");
    open_.emplace(files_);
    free_before_ = blocks().free_blocks();
    auto inode = inodes().read_for_change(inodes().lock(number_));
    ASSERT_TRUE(inode);
    inode_ = *inode;
  }

  Metadata& metadata() { return open_->metadata(); }
  BlockAllocator& blocks() { return metadata().blocks; }
  InodeTable& inodes() { return metadata().inodes; }
  ExtentMap& map() { return metadata().extents; }

  // As a write does it; `count` is a wish.
  Result<void> fill(std::uint64_t logical, std::uint64_t count, Kind kind) {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (model_at(logical + i).kind != Kind::kHole) count = i;
    }
    if (count == 0) return {};
    const auto handle = open_->change();
    auto run = blocks().take(map().goal_for(inode_, logical), count);
    if (!run) return fail(run.error());
    const auto done = map().insert(inode_, logical, run->first, run->count, kind);
    if (!done) {
      EXPECT_TRUE(blocks().give_back(*run, number_));
      return done;
    }
    EXPECT_TRUE(map().add_blocks(inode_, run->count));
    for (std::uint64_t i = 0; i < run->count; ++i) model_at(logical + i) = {run->first + i, kind};
    return {};
  }
  Result<void> convert(std::uint64_t logical, std::uint64_t count, Kind kind) {
    const auto handle = open_->change();
    RETURN_IF_ERROR(map().convert(inode_, logical, count, kind));
    for (std::uint64_t i = logical; i < logical + count; ++i) {
      if (model_at(i).kind != Kind::kHole) model_at(i).kind = kind;
    }
    return {};
  }
  Result<void> remove(std::uint64_t logical, std::uint64_t count) {
    const auto handle = open_->change();
    RETURN_IF_ERROR(map().remove(inode_, logical, count));
    for (std::uint64_t i = logical; i < logical + count; ++i) model_at(i) = {};
    return {};
  }
  Result<void> truncate(std::uint64_t logical) {
    const auto handle = open_->change();
    RETURN_IF_ERROR(map().truncate(inode_, logical));
    if (logical < model_.size()) model_.resize(logical);
    return {};
  }

  Block& model_at(std::uint64_t logical) {
    if (model_.size() <= logical) model_.resize(logical + 1);
    return model_[logical];
  }
  void compare() {
    const auto parts = map().map(inode_, 0, model_.size() + 10);
    ASSERT_TRUE(parts) << parts.error().message();
    std::vector<Block> found(model_.size() + 10);
    for (const Mapping& part : *parts) {
      for (std::uint64_t i = 0; i < part.count; ++i)
        found.at(part.logical + i) = {part.kind == Kind::kHole ? 0 : part.physical + i, part.kind};
    }
    found.resize(model_.size());
    const auto [expected, actual] = std::mismatch(model_.begin(), model_.end(), found.begin());
    ASSERT_EQ(expected, model_.end()) << "block " << expected - model_.begin() << " is at "
                                      << actual->physical << " instead of " << expected->physical;
    EXPECT_TRUE(map().check(inode_));
  }
  void write_and_check() {
    inode_.set_size(model_.size() * open_->volume().block_size());
    {
      const auto handle = open_->change();
      ASSERT_TRUE(inodes().write(inode_));
    }
    open_->finish();
    open_.reset();
    EXPECT_EQ(files_.check(), "");
  }
  [[nodiscard]] unsigned depth() const {
    ext3_extent_header header;
    std::memcpy(&header, inode_.raw.i_block, sizeof header);
    return header.eh_depth;
  }

  TestVolume files_{GetParam().options, "96M"};
  std::optional<OpenVolume> open_;
  InodeNumber number_ = 0;
  Inode inode_;
  std::uint64_t free_before_ = 0;
  std::vector<Block> model_;
};

TEST_P(ExtentMapTest, RandomChangesAreWhatTheModelSays) {
  std::mt19937_64 random(7);
  const auto below = [&](std::uint64_t end) { return random() % end; };
  constexpr std::uint64_t kBlocks = 3000;
  for (int step = 0; step < 4000; ++step) {
    const std::uint64_t logical = below(kBlocks);
    const std::uint64_t count = 1 + below(below(4) == 0 ? 60 : 4);
    const auto kind = GetParam().extents && below(2) == 0 ? Kind::kUnwritten : Kind::kWritten;
    const auto what = below(100);
    Result<void> done;
    if (what < 60)
      done = fill(logical, count, kind);
    else if (what < 75 && GetParam().extents)
      done = convert(logical, count, kind);
    else if (what < 99)
      done = remove(logical, count);
    else
      done = truncate(logical + kBlocks / 2);
    ASSERT_TRUE(done) << done.error().message();
    if (step % 100 != 0) continue;
    ASSERT_NO_FATAL_FAILURE(compare());
  }
  ASSERT_NO_FATAL_FAILURE(compare());
  write_and_check();
}

// Every other block, in random order, so that nothing can be joined: the tree gets as deep as it can here.
TEST_P(ExtentMapTest, ManyPiecesComeAndGo) {
  std::vector<std::uint64_t> order(20'000);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(3));
  for (const std::uint64_t i : order) ASSERT_TRUE(fill(2 * i, 1, Kind::kWritten));
  ASSERT_NO_FATAL_FAILURE(compare());
  if (GetParam().extents) {
    EXPECT_EQ(depth(), 3U);
  }
  std::shuffle(order.begin(), order.end(), std::mt19937_64(5));
  order.resize(order.size() / 2);
  for (const std::uint64_t i : order) ASSERT_TRUE(remove(2 * i, 1));
  ASSERT_NO_FATAL_FAILURE(compare());
  write_and_check();
}

TEST_P(ExtentMapTest, NothingIsLeftOfATreeThatWasTruncated) {
  for (std::uint64_t i = 0; i < 5000; ++i) ASSERT_TRUE(fill(2 * i, 1, Kind::kWritten));
  ASSERT_TRUE(truncate(0));
  EXPECT_EQ(blocks().free_blocks(), free_before_);
  EXPECT_EQ(inode_.sectors(open_->volume().super(), open_->volume().block_size()), 0U);
  write_and_check();
}

// A file that only grows fills its nodes.
TEST_P(ExtentMapTest, AppendedPiecesLeaveNoRoomBehind) {
  if (!GetParam().extents) GTEST_SKIP() << "indirect blocks have fixed places";
  constexpr std::uint64_t kPieces = 4000;
  for (std::uint64_t i = 0; i < kPieces; ++i) ASSERT_TRUE(fill(2 * i, 1, Kind::kWritten));
  const std::uint64_t nodes = free_before_ - blocks().free_blocks() - kPieces;
  const std::uint64_t in_a_leaf = (open_->volume().block_size() - 12) / 12;
  EXPECT_LE(nodes, kPieces / (in_a_leaf - 1) + 3);
  write_and_check();
}

TEST_P(ExtentMapTest, WithoutABlockForANodeTheMapIsWhatItWas) {
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_TRUE(fill(2 * i, 1, Kind::kWritten));
  const auto handle = open_->change(credits::of_replay);
  const auto spare = blocks().take(0, 1);
  ASSERT_TRUE(spare);
  std::vector<BlockRun> all;
  while (const auto run = blocks().take_for_map(0)) all.push_back(*run);
  // Somewhere among these a node is needed that cannot be had.
  Result<void> done;
  std::uint64_t at = 2000;
  for (; done && at < 6000; at += 2) {
    done = map().insert(inode_, at, spare->first, 1, Kind::kWritten);
    if (done) model_at(at) = {spare->first, Kind::kWritten};
  }
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error(), Errno(ENOSPC));
  ASSERT_NO_FATAL_FAILURE(compare());
}

// A run that reaches beyond what the inode's own pointers hold, and no block left for more of them.
TEST_P(ExtentMapTest, ARunIsMappedWholeOrNotAtAll) {
  if (GetParam().extents) GTEST_SKIP() << "a run is one entry";
  constexpr std::uint64_t kRun = EXT2_NDIR_BLOCKS + 20;
  {
    const auto handle = open_->change(credits::of_replay);
    BlockRun run;
    std::vector<BlockRun> all;
    while (const auto next = blocks().take(0, kRun)) {
      if (next->count == kRun && run.count == 0)
        run = *next;
      else
        all.push_back(*next);
    }
    ASSERT_EQ(run.count, kRun);
    EXPECT_EQ(map().insert(inode_, 0, run.first, kRun).error(), Errno(ENOSPC));
    model_.resize(kRun);
    ASSERT_NO_FATAL_FAILURE(compare());
    EXPECT_TRUE(blocks().give_back(run, number_));
    for (const BlockRun& other : all) EXPECT_TRUE(blocks().give_back(other, number_));
    EXPECT_EQ(blocks().free_blocks(), free_before_);
  }
  write_and_check();
}

INSTANTIATE_TEST_SUITE_P(Forms, ExtentMapTest,
                         testing::Values(Form{"checksums", "-t ext4 -b 1024"},
                                         Form{"without", "-t ext4 -b 1024 -O ^metadata_csum,^64bit"},
                                         Form{"indirect", "-t ext3 -b 1024", false}),
                         [](const auto& form) { return form.param.name; });

}  // namespace
}  // namespace fuse4fs::ext4
