// SPDX-License-Identifier: GPL-2.0-or-later
// What of a real device lies in its page cache beside what the server itself has: no metadata in blocks of
// whole pages, and of file data nothing that was not asked for.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "server/cache/block_device.h"
#include "server/cache/buffer_cache.h"
#include "tests/unit/cache/loop_disk.h"

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = LoopDisk::kSize / kPage;

class PageCache : public testing::Test {
 protected:
  void SetUp() override {
    UniqueFd direct = disk_.open(O_DIRECT);
    if (!direct || ::sysconf(_SC_PAGESIZE) != static_cast<long>(kPage))
      GTEST_SKIP() << "SKIPPED: no O_DIRECT here, or pages of another size";
    UniqueFd look = disk_.open(0);
    pages_ = ::mmap(nullptr, LoopDisk::kSize, PROT_READ, MAP_SHARED, look.get(), 0);
    ASSERT_NE(pages_, MAP_FAILED);
    auto device = BlockDevice::adopt(disk_.open(0), std::move(direct), Access::kReadWrite);
    ASSERT_TRUE(device) << device.error().message;
    device_.emplace(std::move(*device));
    device_->stop_read_ahead();
    // Whoever opens a device may look for partitions on it.
    ::posix_fadvise(look.get(), 0, 0, POSIX_FADV_DONTNEED);
    ASSERT_EQ(resident(), std::vector<std::size_t>());
  }
  void TearDown() override {
    if (pages_ != MAP_FAILED) ::munmap(pages_, LoopDisk::kSize);
  }

  // The pages that are there, by number.
  [[nodiscard]] std::vector<std::size_t> resident() const {
    std::vector<unsigned char> is_there(kPages);
    EXPECT_EQ(::mincore(pages_, LoopDisk::kSize, is_there.data()), 0);
    std::vector<std::size_t> numbers;
    for (std::size_t i = 0; i < kPages; ++i) {
      if ((is_there[i] & 1) != 0) numbers.push_back(i);
    }
    return numbers;
  }
  // Blocks 8 and 9 changed and written, block 10 read, 16 to 31 read ahead.
  void use(BufferCache& cache) {
    for (const std::uint64_t block : {8, 9}) {
      auto buffer = cache.get(block);
      ASSERT_TRUE(buffer);
      const auto change = buffer->change();
      ASSERT_TRUE(change);
      std::ranges::fill(change->bytes(), std::byte{'m'});
    }
    ASSERT_TRUE(cache.get(10));
    cache.read_ahead(16, 16);
    auto all = cache.begin_write_back();
    ASSERT_EQ(all.blocks().size(), 2U);
    ASSERT_TRUE(all.write_instead(1, all.blocks()[1].bytes));
    ASSERT_TRUE(all.write(std::vector<std::size_t>{0, 1}));
  }

  LoopDisk disk_;
  void* pages_ = MAP_FAILED;
  std::optional<BlockDevice> device_;
};

TEST_F(PageCache, HasNoMetadata) {
  BufferCache cache(*device_, kPage);
  use(cache);
  EXPECT_EQ(resident(), std::vector<std::size_t>());
}

// Such blocks may share a page with file data.
TEST_F(PageCache, HasMetadataInBlocksOfLessThanAPage) {
  BufferCache cache(*device_, 1024);
  use(cache);
  EXPECT_EQ(resident(), (std::vector<std::size_t>{2, 4, 5, 6, 7}));
}

TEST_F(PageCache, HasOfFileDataWhatWasAskedFor) {
  std::vector<std::byte> bytes(100);
  for (const std::size_t page : {3, 4, 5, 6, 40}) ASSERT_TRUE(device_->read(page * kPage, bytes));
  ASSERT_TRUE(device_->write(50 * kPage + 7, bytes));
  EXPECT_EQ(resident(), (std::vector<std::size_t>{3, 4, 5, 6, 40, 50}));
}

// A directory's block that was a file's, whose last bytes are still on their way.
TEST_F(PageCache, LosesWhatBecomesMetadata) {
  BufferCache cache(*device_, kPage);
  const std::vector<std::byte> data(100, std::byte{'d'});
  ASSERT_TRUE(device_->write(12 * kPage, data));
  ASSERT_EQ(resident(), std::vector<std::size_t>{12});
  {
    auto buffer = cache.get_new(12, {});
    ASSERT_TRUE(buffer);
    const auto change = buffer->change();
    ASSERT_TRUE(change);
    std::ranges::fill(change->bytes(), std::byte{'m'});
  }
  ASSERT_TRUE(cache.flush());
  ASSERT_TRUE(device_->flush());
  EXPECT_EQ(resident(), std::vector<std::size_t>());
  std::vector<std::byte> all(kPage);
  ASSERT_TRUE(device_->read(12 * kPage, all));
  EXPECT_EQ(std::ranges::count(all, std::byte{'m'}), static_cast<long>(kPage));
}

}  // namespace
}  // namespace fuse4fs::cache
