// SPDX-License-Identifier: GPL-2.0-or-later
// Changes of maps that are longer than the log has room for, or than one handle may hold everybody up:
// several handles, and a consistent volume between two of them, which e2fsck judges as a write-back there
// leaves it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <functional>
#include <limits>
#include <thread>
#include <utility>

#include "server/journal/change_log.h"
#include "tests/unit/ext4/open_volume.h"

namespace fuse4fs::ext4 {
namespace {

using testing::IsEmpty;

// A handle may have no more credits than this.
constexpr std::size_t kRoom = credits::of_map.blocks + 1;
constexpr std::uint64_t kPieces = 4000;

// Has room for so many blocks, and counts handles by the first block of each.
class BoundedLog final : public journal::ChangeLog {
 public:
  static constexpr std::size_t kEndless = std::numeric_limits<std::size_t>::max() / 2;
  BoundedLog(Volume& volume, std::size_t room)
      : room_(room), journal_(volume.journal()), below_(volume.cache()) {
    journal_.set_log(*this);
  }
  Result<cache::Change> modify(cache::Buffer& buffer, Changed changed) override {
    note(changed);
    return below_.modify(buffer, changed);
  }
  Result<cache::Buffer> get_new(std::uint64_t block, cache::BlockRole role, Changed changed) override {
    note(changed);
    return below_.get_new(block, role, changed);
  }
  Result<void> write(std::uint64_t block, std::size_t inside, std::span<const std::byte> from,
                     Changed changed) override {
    note(changed);
    return below_.write(block, inside, from, changed);
  }
  void revoke(std::uint64_t, std::uint64_t count) override { revoked += count; }
  void forget(std::uint64_t first, std::uint64_t count) override { below_.forget(first, count); }
  bool has_room(std::size_t blocks) override { return journal_.granted().blocks + blocks <= room_; }

  std::size_t handles = 0;
  std::size_t most_blocks = 0;  // of one
  std::size_t revoked = 0;
  std::function<void()> when_begun;  // with its first block

 private:
  void note(Changed changed) {
    const std::size_t used = journal_.used().blocks;
    most_blocks = std::max(most_blocks, used);
    if (used != 1 || changed != Changed::kFirst) return;
    ++handles;
    if (when_begun) when_begun();
  }
  const std::size_t room_;
  journal::Journal& journal_;
  journal::NoJournal below_;
};

struct Form {
  const char* name;
  const char* options;
  std::uint64_t block_size;
  bool extents = true;
  // What is freed is not changed, so indirect maps take few credits as long as those of bitmaps are not
  // taken.
  [[nodiscard]] std::size_t least_handles() const { return extents ? 6 : 3; }
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class LongWork : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    auto& fs = files_.mount();
    number_ = make_file("file");
    size_ = fs.attributes(number_)->size;
    ASSERT_THAT(files_.unmount_and_check(), IsEmpty());
    open_.emplace(files_);
  }
  // Of so many pieces, a hole behind each.
  InodeNumber make_file(const char* name) {
    const InodeNumber number = files_.make_file(kRootInode, name);
    const std::string piece(GetParam().block_size, 'x');
    for (std::uint64_t i = 0; i < kPieces; ++i) files_.write(number, 2 * i * GetParam().block_size, piece);
    return number;
  }

  Volume& volume() { return open_->volume(); }
  Metadata& metadata() { return open_->metadata(); }
  [[nodiscard]] std::uint64_t end() const { return size_ / GetParam().block_size; }

  // `work` under a handle for one step, with the inode's lock held. After the first, second, fourth, eighth …
  // another thread writes back, and e2fsck looks, or who is asked to.
  template <class Work>
  void in_several(Work work, const std::function<void()>& look = {}) {
    BoundedLog log(volume(), kRoom);
    std::atomic<bool> asked{false}, pending{false}, over{false};
    std::size_t looked = 0;
    std::jthread looker([&] {
      while (true) {
        while (!asked && !over) std::this_thread::yield();
        if (!asked.exchange(false)) return;
        pending = true;
        EXPECT_TRUE(volume().write_back());
        pending = false;
        if (look) {
          look();
        } else {
          EXPECT_THAT(files_.check(), IsEmpty()) << looked;
        }
        ++looked;
      }
    });
    log.when_begun = [&] {
      // It has paused before this one, or does so behind it.
      for (int i = 0; pending && i < 50; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (pending || !std::has_single_bit(log.handles)) return;
      asked = true;
      while (!pending) std::this_thread::yield();
    };
    change(work);
    over = true;
    looker.join();
    EXPECT_GE(log.handles, GetParam().least_handles());
    EXPECT_LE(log.most_blocks, kRoom);
    EXPECT_GE(looked, GetParam().least_handles() / 2);
    revoked_ = log.revoked;
    finish();
  }
  template <class Work>
  void change(Work work) {
    const auto held = metadata().inodes.lock(number_);
    auto inode = metadata().inodes.read_for_change(held);
    ASSERT_TRUE(inode);
    const auto handle = open_->change();
    EXPECT_TRUE(work(*inode));
    EXPECT_TRUE(metadata().inodes.write(*inode));
  }
  void finish() {
    journal::NoJournal plain(volume().cache());
    volume().journal().set_log(plain);
    open_->finish();
    open_.reset();
    EXPECT_THAT(files_.check(), IsEmpty());
  }

  TestVolume files_{std::string("-O ^has_journal ") + GetParam().options, "64M"};
  std::optional<OpenVolume> open_;
  InodeNumber number_ = 0;
  std::uint64_t size_ = 0;
  std::size_t revoked_ = 0;
};

TEST_P(LongWork, ATruncate) {
  in_several([&](Inode& inode) {
    inode.set_size(size_ / 10);
    return metadata().extents.truncate(inode, end() / 10 + 1, ExtentMap::Handles::kSeveral);
  });
  // Nodes, or indirect blocks, and no data.
  EXPECT_GT(revoked_, 5U);
  EXPECT_LT(revoked_, 100U);
  auto& fs = files_.mount();
  EXPECT_EQ(fs.attributes(number_)->size, size_ / 10);
  EXPECT_EQ(files_.read(number_, 0, 1), "x");
  EXPECT_THAT(files_.unmount_and_check(), IsEmpty());
}

TEST_P(LongWork, AHole) {
  in_several([&](Inode& inode) {
    return metadata().extents.remove(inode, end() / 10, end() / 10 * 8, ExtentMap::Handles::kSeveral);
  });
  EXPECT_EQ(files_.mount().attributes(number_)->size, size_);
  EXPECT_THAT(files_.unmount_and_check(), IsEmpty());
}

TEST_P(LongWork, Zeros) {
  if (!GetParam().extents) GTEST_SKIP() << "no unwritten blocks";
  in_several([&](Inode& inode) {
    return metadata().extents.convert(inode, 0, end(), Mapping::Kind::kUnwritten,
                                      ExtentMap::Handles::kSeveral);
  });
  files_.mount();
  EXPECT_EQ(files_.read(number_, 0, 1), std::string(1, '\0'));
  EXPECT_THAT(files_.unmount_and_check(), IsEmpty());
}

TEST_P(LongWork, ACollapse) {
  if (!GetParam().extents) GTEST_SKIP() << "not of indirect maps";
  const std::uint64_t first = end() / 10, count = end() / 10;
  in_several([&](Inode& inode) -> Result<void> {
    constexpr auto kSeveral = ExtentMap::Handles::kSeveral;
    RETURN_IF_ERROR(metadata().extents.remove(inode, first, count, kSeveral));
    RETURN_IF_ERROR(metadata().extents.collapse(inode, first, count, kSeveral));
    inode.set_size(size_ - count * GetParam().block_size);
    return {};
  });
  files_.mount();
  for (std::uint64_t i = 0; i < end() - count; ++i) {
    const bool is_piece = (i < first ? i : i + count) % 2 == 0;
    ASSERT_EQ(files_.read(number_, i * GetParam().block_size, 1), is_piece ? "x" : std::string(1, '\0')) << i;
  }
  EXPECT_THAT(files_.unmount_and_check(), IsEmpty());
}

TEST_P(LongWork, AnInsertedHole) {
  if (!GetParam().extents) GTEST_SKIP() << "not of indirect maps";
  const std::uint64_t first = end() / 10, count = end() / 10;
  in_several([&](Inode& inode) {
    inode.set_size(size_ + count * GetParam().block_size);
    return metadata().extents.insert_hole(inode, first, count, ExtentMap::Handles::kSeveral);
  });
  files_.mount();
  for (std::uint64_t i = 0; i < end() + count; ++i) {
    const bool is_piece = i < first ? i % 2 == 0 : i >= first + count && (i - count) % 2 == 0;
    ASSERT_EQ(files_.read(number_, i * GetParam().block_size, 1), is_piece ? "x" : std::string(1, '\0')) << i;
  }
  EXPECT_THAT(files_.unmount_and_check(), IsEmpty());
}

// While it goes it has no name. Without a journal nothing lists it: e2fsck finds an inode without links, and
// takes what it still has; of what it had before nothing is lost.
TEST_P(LongWork, ADeletion) {
  const std::uint64_t all = metadata().blocks.free_blocks() + kPieces;
  {
    auto root = metadata().inodes.read_raw(kRootInode);
    ASSERT_TRUE(root);
    const auto handle = open_->change(credits::of_unlink);
    EXPECT_TRUE(metadata().directories.remove(*root, "file"));
  }
  const auto copy = files_.image().string() + ".copy";
  in_several(
      [&](Inode& inode) {
        inode.raw.i_links_count = 0;
        return metadata().inodes.release(inode, ExtentMap::Handles::kSeveral);
      },
      [&] {
        ASSERT_EQ(run("cp --sparse=always " + files_.image().string() + " " + copy).status, 0);
        EXPECT_EQ(run("e2fsck -fy " + copy).status, 1);
        const auto checked = run("e2fsck -fn " + copy);
        EXPECT_EQ(checked.status, 0) << checked.output;
        const auto free = run("dumpe2fs -h " + copy + " 2>/dev/null | sed -n 's/^Free blocks: *//p'");
        // And the nodes of its map.
        EXPECT_GE(std::stoul(free.output), all);
      });
}

// The exact number of handles, whatever the log would take.
TEST_P(LongWork, IsSeveralHandlesEvenWithoutAJournal) {
  BoundedLog log(volume(), BoundedLog::kEndless);
  change([&](Inode& inode) {
    inode.set_size(0);
    return metadata().extents.truncate(inode, 0, ExtentMap::Handles::kSeveral);
  });
  using Bounds = ExtentMap::LongWork;
  const auto up = [](std::uint64_t all, std::uint64_t each) { return (all + each - 1) / each; };
  const std::uint64_t pointers = GetParam().block_size / 4;
  EXPECT_EQ(log.handles, GetParam().extents ? up(kPieces, Bounds::kExtents)
                                            : up(up(end() - EXT2_NDIR_BLOCKS, pointers), Bounds::kIndirect));
  EXPECT_LE(log.most_blocks, Bounds::kBlocks + credits::of_map.blocks);
  finish();
}

TEST_P(LongWork, HolesAndZerosAreSeveralHandlesAsWell) {
  for (const auto kind : {Mapping::Kind::kUnwritten, Mapping::Kind::kHole}) {
    if (kind == Mapping::Kind::kUnwritten && !GetParam().extents) continue;
    BoundedLog log(volume(), BoundedLog::kEndless);
    change([&](Inode& inode) {
      constexpr auto kSeveral = ExtentMap::Handles::kSeveral;
      return kind == Mapping::Kind::kHole ? metadata().extents.remove(inode, 0, end(), kSeveral)
                                          : metadata().extents.convert(inode, 0, end(), kind, kSeveral);
    });
    // Holes between are steps, too.
    if (GetParam().extents) {
      EXPECT_EQ(log.handles,
                (2 * kPieces - 1 + ExtentMap::LongWork::kExtents - 1) / ExtentMap::LongWork::kExtents);
    } else {
      EXPECT_GT(log.handles, 2U);
    }
    EXPECT_LE(log.most_blocks, ExtentMap::LongWork::kBlocks + credits::of_map.blocks);
  }
  finish();
}

// One after the other: who forgets the second while the first goes leaves it to the first one's thread.
TEST_P(LongWork, OneDeletionOfALargeMapIsUnderWay) {
  open_->finish();
  open_.reset();
  files_.mount();
  const InodeNumber second = make_file("second");
  ASSERT_THAT(files_.unmount_and_check(), IsEmpty());
  open_.emplace(files_);
  auto& inodes = metadata().inodes;
  const std::uint64_t free = metadata().blocks.free_blocks();
  {
    auto root = inodes.read_raw(kRootInode);
    ASSERT_TRUE(root);
    const auto handle = open_->change(credits::of_unlink);
    ASSERT_TRUE(metadata().directories.remove(*root, "file"));
    ASSERT_TRUE(metadata().directories.remove(*root, "second"));
  }
  for (const InodeNumber number : {number_, second}) {
    inodes.count(number).keep();
    const auto held = inodes.lock(number);
    auto inode = inodes.read(held);
    ASSERT_TRUE(inode);
    inode->raw.i_links_count = 0;
    const auto handle = open_->change();
    ASSERT_TRUE(inodes.write(*inode));
    ASSERT_TRUE(inodes.orphan(held, *inode));
  }
  BoundedLog log(volume(), BoundedLog::kEndless);
  std::uint64_t free_then = 0;
  bool is_first = true;
  log.when_begun = [&] {
    if (!std::exchange(is_first, false)) return;
    // Without waiting for the first one.
    std::thread([&] { EXPECT_TRUE(inodes.forget(second, 1)); }).join();
    free_then = metadata().blocks.free_blocks();
  };
  ASSERT_TRUE(inodes.forget(number_, 1));
  // Three levels of indirect blocks make one that is large, which this is not.
  EXPECT_EQ(free_then < free + kPieces, GetParam().extents);
  EXPECT_GE(metadata().blocks.free_blocks(), free + 2 * kPieces);
  EXPECT_FALSE(inodes.lock(second).is_unlinked());
  finish();
}

INSTANTIATE_TEST_SUITE_P(Forms, LongWork,
                         testing::Values(Form{"small_blocks", "-t ext4 -b 1024", 1024},
                                         Form{"usual", "-t ext4 -b 4096", 4096},
                                         Form{"indirect", "-t ext3 -b 1024", 1024, false}),
                         [](const auto& form) { return form.param.name; });

}  // namespace
}  // namespace fuse4fs::ext4
