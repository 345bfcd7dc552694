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
    EXPECT_TRUE(fs_->sync_inode(kRootInode));
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
