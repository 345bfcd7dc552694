// SPDX-License-Identifier: GPL-2.0-or-later
// What a sync costs: writes and flushes of the device.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "tests/devices/memory_backend.h"
#include "tests/devices/recording_backend.h"
#include "tests/unit/ext4/test_volume.h"

namespace fuse4fs::ext4 {
namespace {

struct Costs {
  std::size_t writes = 0, flushes = 0;
  friend bool operator==(const Costs&, const Costs&) = default;
};

class SyncCosts : public testing::Test {
 protected:
  explicit SyncCosts(const std::string& features = "^has_journal")
      : volume_("-t ext4 -b 4096 -O " + features, "32M") {}
  void SetUp() override {
    std::vector<std::byte> bytes(std::filesystem::file_size(volume_.image()));
    std::ifstream(volume_.image(), std::ios::binary)
        .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    auto device = std::make_unique<cache::RecordingBackend>(
        std::make_unique<cache::MemoryBackend>(std::make_shared<cache::Memory>(std::move(bytes))),
        recording_);
    auto mounted = FileSystem::mount(cache::BlockDevice(std::move(device), cache::Access::kReadWrite), {},
                                     volume_.events);
    ASSERT_TRUE(mounted) << mounted.error().message;
    fs_ = *std::move(mounted);
    make("first");
    (void)costs_of_sync();
  }
  void make(const std::string& name) {
    const auto made = fs_->make(kRootInode, name, {.mode = S_IFREG | 0644U});
    ASSERT_TRUE(made);
    const std::string bytes(1000, 'x');
    ASSERT_TRUE(
        fs_->write(made->inode, 0, std::as_bytes(std::span(bytes)), AttributeChanges::Privileges::kKeep));
    fs_->forget(made->inode, 1);
  }
  Costs costs_of_sync() {
    EXPECT_TRUE(fs_->sync());
    return costs();
  }
  using What = FileSystem::SyncWhat;
  Costs costs_of_sync(InodeNumber inode, What what) {
    EXPECT_TRUE(fs_->sync_inode(inode, what));
    return costs();
  }
  Costs costs() {
    const auto lines = recording_->take_lines();
    Costs costs;
    costs.flushes = static_cast<std::size_t>(std::count(lines.begin(), lines.end(), "F"));
    costs.writes = lines.size() - costs.flushes;
    return costs;
  }

  TestVolume volume_;
  std::shared_ptr<cache::Recording> recording_ = std::make_shared<cache::Recording>();
  std::unique_ptr<FileSystem> fs_;
};

void PrintTo(const Costs& costs, std::ostream* out) {
  *out << costs.writes << " writes, " << costs.flushes << " flushes";
}

TEST_F(SyncCosts, OfANewFile) {
  make("second");
  // Its data; superblock, descriptors and bitmaps, inodes; then the directory.
  const auto costs = costs_of_sync();
  EXPECT_EQ(costs.flushes, 2U);
  EXPECT_LE(costs.writes, 7U);
  fmt::print("a new file: {} writes, {} flushes\n", costs.writes, costs.flushes);
}

TEST_F(SyncCosts, OfAppending) {
  const auto found = fs_->lookup(kRootInode, "first");
  ASSERT_TRUE(found);
  ASSERT_TRUE(fs_->write(found->inode, 1000, std::as_bytes(std::span("more", 4)),
                         AttributeChanges::Privileges::kKeep));
  const auto costs = costs_of_sync();
  EXPECT_EQ(costs, (Costs{.writes = 2, .flushes = 1}));
}

TEST_F(SyncCosts, OfANewFileInThePlaceOfAnOld) {
  make("second");
  (void)costs_of_sync();
  ASSERT_TRUE(fs_->rename(kRootInode, "second", kRootInode, "first", {}));
  const auto costs = costs_of_sync();
  EXPECT_EQ(costs.flushes, 3U);
  fmt::print("a rename over a file: {} writes, {} flushes\n", costs.writes, costs.flushes);
}

TEST_F(SyncCosts, OfNothing) { EXPECT_EQ(costs_of_sync(), Costs()); }

class InodeSyncCosts : public SyncCosts {
 protected:
  void SetUp() override {
    SyncCosts::SetUp();
    const auto found = fs_->lookup(kRootInode, "first");
    ASSERT_TRUE(found);
    file_ = found->inode;
    // Something of its own to write there, whoever is synced.
    make("anothers");
    (void)costs();
  }
  void overwrite(std::uint64_t offset) {
    const auto done =
        fs_->write(file_, offset, std::as_bytes(std::span("more", 4)), AttributeChanges::Privileges::kKeep);
    ASSERT_TRUE(done);
    (void)costs();
  }
  static constexpr Costs kFlush{.writes = 0, .flushes = 1};
  InodeNumber file_ = 0;
};

TEST_F(InodeSyncCosts, OfWhatOthersChangedNone) {
  // What the device took of the other file's data, with its own.
  EXPECT_EQ(costs_of_sync(file_, What::kAll), kFlush);
  EXPECT_EQ(costs_of_sync(file_, What::kAll), Costs());
}

TEST_F(InodeSyncCosts, OfDataInItsPlaceAFlushAndForTheTimesAWrite) {
  overwrite(0);
  EXPECT_EQ(costs_of_sync(file_, What::kDataOnly), kFlush);
  EXPECT_NE(costs_of_sync(file_, What::kAll).writes, 0U);
  EXPECT_EQ(costs_of_sync(file_, What::kAll), Costs());
}

TEST_F(InodeSyncCosts, OfMoreDataOfItsInode) {
  overwrite(1000);
  EXPECT_NE(costs_of_sync(file_, What::kDataOnly).writes, 0U);
}

TEST_F(InodeSyncCosts, OfANewNameOfItsInodeAndItsDirectory) {
  ASSERT_TRUE(fs_->rename(kRootInode, "first", kRootInode, "renamed", {}));
  EXPECT_NE(costs_of_sync(file_, What::kAll).writes, 0U);
  ASSERT_TRUE(fs_->rename(kRootInode, "renamed", kRootInode, "again", {}));
  EXPECT_NE(costs_of_sync(kRootInode, What::kDataOnly).writes, 0U);
}

// What counts no block and changes no size: unwritten ones that were written to, in a node of their own.
TEST_F(InodeSyncCosts, OfAMapThatChangedItsNode) {
  constexpr std::uint64_t kBlock = 4096;
  for (std::uint64_t i = 0; i < 12; ++i)
    ASSERT_TRUE(fs_->change_range(file_, RangeChange::kAllocate, {(i + 1) * 2 * kBlock, kBlock},
                                  EndOfFile::kMayMove, AttributeChanges::Privileges::kKeep, {}));
  (void)costs_of_sync();
  overwrite(4 * kBlock);
  EXPECT_NE(costs_of_sync(file_, What::kDataOnly).writes, 0U);
  EXPECT_EQ(costs_of_sync(file_, What::kDataOnly), Costs());
}

// It would be gone before their new places are written.
TEST_F(SyncCosts, OfADirectoryThatGoesAfterItsNamesAWriteBackBetween) {
  const auto made = fs_->make(kRootInode, "d", {.mode = S_IFDIR | 0755U});
  const auto other = fs_->make(kRootInode, "other", {.mode = S_IFDIR | 0755U});
  ASSERT_TRUE(made && other);
  const auto file = fs_->make(made->inode, "f", {.mode = S_IFREG | 0644U});
  ASSERT_TRUE(file);
  ASSERT_TRUE(fs_->link(file->inode, kRootInode, "f2"));
  (void)costs_of_sync();
  // Its other name is there already.
  ASSERT_TRUE(fs_->unlink(made->inode, "f"));
  ASSERT_TRUE(fs_->remove_directory(kRootInode, "d"));
  EXPECT_EQ(costs(), Costs());
  ASSERT_TRUE(fs_->rename(kRootInode, "f2", other->inode, "f2", {}));
  (void)costs_of_sync();
  ASSERT_TRUE(fs_->rename(other->inode, "f2", kRootInode, "f3", {}));
  EXPECT_EQ(costs(), Costs());
  ASSERT_TRUE(fs_->remove_directory(kRootInode, "other"));
  EXPECT_NE(costs().writes, 0U);
}

TEST_F(SyncCosts, OfADirectoryThatIsReplacedAfterItsNamesAWriteBackBetween) {
  const auto made = fs_->make(kRootInode, "d", {.mode = S_IFDIR | 0755U});
  ASSERT_TRUE(made && fs_->make(kRootInode, "other", {.mode = S_IFDIR | 0755U}));
  const auto file = fs_->make(made->inode, "f", {.mode = S_IFREG | 0644U});
  ASSERT_TRUE(file);
  (void)costs_of_sync();
  ASSERT_TRUE(fs_->link(file->inode, kRootInode, "f2"));
  ASSERT_TRUE(fs_->unlink(made->inode, "f"));
  EXPECT_EQ(costs(), Costs());
  ASSERT_TRUE(fs_->rename(kRootInode, "other", kRootInode, "d", {}));
  EXPECT_NE(costs().writes, 0U);
}

// Which could each hold the other while both names of both are on the device.
TEST_F(SyncCosts, OfADirectoryThatMovesIntoOneThatMovedAWriteBackBetween) {
  const auto make_directory = [&](InodeNumber parent, const char* name) {
    const auto made = fs_->make(parent, name, {.mode = S_IFDIR | 0755U});
    EXPECT_TRUE(made);
    return made ? made->inode : 0;
  };
  const auto above = make_directory(kRootInode, "above");
  const auto below = make_directory(above, "below");
  const auto inside = make_directory(below, "inside");
  make_directory(kRootInode, "other");
  (void)costs_of_sync();
  ASSERT_TRUE(fs_->rename(above, "below", kRootInode, "below", {}));
  ASSERT_TRUE(fs_->rename(kRootInode, "other", above, "other", {}));
  EXPECT_EQ(costs(), Costs());
  ASSERT_TRUE(fs_->rename(kRootInode, "above", inside, "above", {}));
  EXPECT_NE(costs().writes, 0U);
  // All is written.
  ASSERT_TRUE(fs_->rename(inside, "above", kRootInode, "above", {}));
  EXPECT_EQ(costs(), Costs());
  ASSERT_TRUE(fs_->rename(kRootInode, "below", above, "below", {}));
  EXPECT_NE(costs().writes, 0U);
}

// Directories inside of their inodes, of which both could lose a name where each has one of the other's.
class ExchangedNames : public SyncCosts {
 protected:
  ExchangedNames() : SyncCosts("^has_journal,inline_data") {}
  InodeNumber make_in(InodeNumber parent, const std::string& name, mode_t mode) {
    const auto made = fs_->make(parent, name, {.mode = mode});
    EXPECT_TRUE(made);
    return made ? made->inode : 0;
  }
  std::size_t writes() { return recording_->take_lines().size(); }
};

TEST_F(ExchangedNames, AreWrittenBetween) {
  const auto one = make_in(kRootInode, "one", S_IFDIR | 0755U);
  const auto other = make_in(kRootInode, "other", S_IFDIR | 0755U);
  for (const char* name : {"a", "b", "c"}) make_in(one, name, S_IFREG | 0644U);
  make_in(other, "x", S_IFREG | 0644U);
  (void)costs_of_sync();
  // One way, within a directory, and what is new: in any order.
  ASSERT_TRUE(fs_->rename(one, "a", other, "a", {}));
  ASSERT_TRUE(fs_->rename(one, "b", other, "b", {}));
  ASSERT_TRUE(fs_->rename(other, "x", other, "y", {}));
  make_in(one, "new", S_IFREG | 0644U);
  EXPECT_EQ(writes(), 0U);
  ASSERT_TRUE(fs_->rename(other, "y", one, "y", {}));
  EXPECT_NE(writes(), 0U);
  const auto linked = fs_->lookup(one, "c");
  ASSERT_TRUE(linked);
  // "y" has just left this one.
  ASSERT_TRUE(fs_->link(linked->inode, other, "c"));
  EXPECT_NE(writes(), 0U);
  for (const char* name : {"a", "b", "c"}) EXPECT_TRUE(fs_->lookup(other, name)) << name;
  for (const char* name : {"c", "y", "new"}) EXPECT_TRUE(fs_->lookup(one, name)) << name;
}

}  // namespace
}  // namespace fuse4fs::ext4
