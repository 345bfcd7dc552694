// SPDX-License-Identifier: GPL-2.0-or-later
// Changes of maps that are longer than the log has room for: several handles, and a consistent volume between
// two of them, which e2fsck judges as a write-back there leaves it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <functional>
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

class SmallLog final : public journal::ChangeLog {
 public:
  explicit SmallLog(Volume& volume) : journal_(volume.journal()), below_(volume.cache()) {
    journal_.set_log(*this);
  }
  Result<cache::Change> modify(cache::Buffer& buffer, Changed changed) override {
    note();
    return below_.modify(buffer, changed);
  }
  Result<cache::Buffer> get_new(std::uint64_t block, cache::BlockRole role, Changed changed) override {
    note();
    return below_.get_new(block, role, changed);
  }
  Result<void> write(std::uint64_t block, std::size_t inside, std::span<const std::byte> from,
                     Changed changed) override {
    note();
    return below_.write(block, inside, from, changed);
  }
  void revoke(std::uint64_t, std::uint64_t count) override { revoked += count; }
  void forget(std::uint64_t first, std::uint64_t count) override { below_.forget(first, count); }
  // What is refused is begun anew.
  bool has_room(std::size_t blocks) override {
    if (journal_.granted().blocks + blocks <= kRoom) return true;
    ++refused;
    if (when_refused) when_refused();
    begins_ = true;
    return false;
  }

  std::size_t refused = 0;
  std::size_t revoked = 0;
  // In the handle that ends, and in the next one.
  std::function<void()> when_refused, when_begun;

 private:
  void note() {
    EXPECT_LE(journal_.used().blocks, kRoom);
    if (journal_.used().blocks > 1 || !std::exchange(begins_, false)) return;
    if (when_begun) when_begun();
  }
  journal::Journal& journal_;
  journal::NoJournal below_;
  bool begins_ = false;
};

struct Form {
  const char* name;
  const char* options;
  std::uint64_t block_size;
  bool extents = true;
  // What is freed is not changed, so indirect maps take few credits as long as those of bitmaps are not
  // taken.
  [[nodiscard]] std::size_t least_restarts() const { return extents ? 5 : 1; }
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

class LongWork : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    auto& fs = files_.mount();
    number_ = files_.make_file(kRootInode, "file");
    const std::string piece(GetParam().block_size, 'x');
    for (std::uint64_t i = 0; i < kPieces; ++i) files_.write(number_, 2 * i * GetParam().block_size, piece);
    size_ = fs.attributes(number_)->size;
    ASSERT_THAT(files_.unmount_and_check(), IsEmpty());
    open_.emplace(files_);
  }

  Volume& volume() { return open_->volume(); }
  Metadata& metadata() { return open_->metadata(); }
  [[nodiscard]] std::uint64_t end() const { return size_ / GetParam().block_size; }

  // `work` under a handle for one step, with the inode's lock held. After the first, second, fourth, eighth …
  // another thread writes back, and e2fsck looks.
  template <class Work>
  void in_several(Work work) {
    SmallLog log(volume());
    std::atomic<bool> asked{false}, pending{false}, over{false};
    std::size_t looked = 0;
    std::jthread looker([&] {
      while (true) {
        while (!asked && !over) std::this_thread::yield();
        if (!asked.exchange(false)) return;
        pending = true;
        EXPECT_TRUE(volume().write_back());
        pending = false;
        EXPECT_THAT(files_.check(), IsEmpty()) << looked;
        ++looked;
      }
    });
    log.when_refused = [&] {
      if (!std::has_single_bit(log.refused)) return;
      asked = true;
      while (!pending) std::this_thread::yield();
    };
    // It has paused, or does between the next two.
    log.when_begun = [&] {
      for (int i = 0; pending && i < 50; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    change(work);
    over = true;
    looker.join();
    EXPECT_GE(log.refused, GetParam().least_restarts());
    EXPECT_GE(looked, GetParam().least_restarts() / 2 + 1);
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
    used_ = volume().journal().used().blocks;
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
  std::size_t used_ = 0;  // under the last handle
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

// While it goes it has no name: nothing to judge until the end.
TEST_P(LongWork, ADeletion) {
  SmallLog log(volume());
  {
    auto root = metadata().inodes.read_raw(kRootInode);
    auto inode = metadata().inodes.read_raw(number_);
    ASSERT_TRUE(root && inode);
    std::optional handle(open_->change(credits::of_unlink));
    EXPECT_TRUE(metadata().directories.remove(*root, "file"));
    inode->raw.i_links_count = 0;
    handle.reset();
    handle.emplace(open_->change());
    EXPECT_TRUE(metadata().inodes.release(*inode));
  }
  EXPECT_GE(log.refused, GetParam().least_restarts());
  finish();
}

TEST_P(LongWork, IsOneHandleWithoutAJournal) {
  change([&](Inode& inode) {
    inode.set_size(0);
    return metadata().extents.truncate(inode, 0, ExtentMap::Handles::kSeveral);
  });
  // With so many changed it would have needed another.
  if (GetParam().extents) {
    EXPECT_GT(used_, kRoom - credits::of_map.blocks + 5);
  }
  finish();
}

INSTANTIATE_TEST_SUITE_P(Forms, LongWork,
                         testing::Values(Form{"small_blocks", "-t ext4 -b 1024", 1024},
                                         Form{"usual", "-t ext4 -b 4096", 4096},
                                         Form{"indirect", "-t ext3 -b 1024", 1024, false}),
                         [](const auto& form) { return form.param.name; });

}  // namespace
}  // namespace fuse4fs::ext4
