// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks of a real device that are metadata now and file data then, in pages that they share with others:
// neither side ever sees, or writes back, what a block was before.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "server/cache/block_device.h"
#include "server/cache/buffer_cache.h"
#include "tests/unit/cache/loop_disk.h"

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kDirectPiece = std::size_t{64}
                                     << 10;  // from here on file data goes past the page cache
constexpr std::size_t kDisk = LoopDisk::kSize;
constexpr unsigned kThreads = 4;

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<std::byte[], FreeMemory>;
AlignedMemory aligned_memory(std::size_t bytes) {
  return AlignedMemory(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes)));
}

struct Sizes {
  std::size_t block = 0, sector = 512;
};

class RoleChanges : public ::testing::TestWithParam<Sizes> {
 protected:
  // One block, whoever has it.
  struct Block {
    enum class Role : std::uint8_t { kData, kMetadata } role = Role::kData;
    std::uint32_t version = 0;
  };

  void SetUp() override {
    UniqueFd direct = disk_.open(O_DIRECT);
    if (!direct)
      GTEST_SKIP() << "SKIPPED: no loop devices here, and the file system of /tmp knows no O_DIRECT";
    auto device = BlockDevice::adopt(disk_.open(0), std::move(direct), Access::kReadWrite);
    ASSERT_TRUE(device) << device.error().message;
    device_ = std::make_unique<BlockDevice>(std::move(*device));
    past_cache_ = disk_.open(O_DIRECT);
    cache_ = std::make_unique<BufferCache>(*device_, block_size_);
    blocks_.resize(kDisk / block_size_);
  }

  // What a block holds: its number and version throughout. Version 0 is what a new device holds.
  [[nodiscard]] std::vector<std::byte> content_of(std::size_t number) const {
    std::vector<std::byte> bytes(block_size_);
    const std::uint32_t version = blocks_[number].version;
    for (std::size_t i = 0; version != 0 && i < bytes.size(); i += 8) {
      const auto name = static_cast<std::uint32_t>(number);
      std::memcpy(&bytes[i], &name, 4);
      std::memcpy(&bytes[i + 4], &version, 4);
    }
    return bytes;
  }
  void read_and_compare(std::size_t number, const char* when) {
    std::vector<std::byte> bytes(block_size_);
    if (blocks_[number].role == Block::Role::kMetadata) {
      const auto buffer = cache_->get(number);
      ASSERT_TRUE(buffer);
      std::memcpy(bytes.data(), buffer->bytes().data(), block_size_);
    } else {
      ASSERT_TRUE(device_->read(number * block_size_, bytes));
    }
    ASSERT_TRUE(bytes == content_of(number)) << when << ", block " << number << ": " << words_for(number);
  }
  // In one piece past the page cache where that may be, through it, or as a file's last bytes go: in two.
  void write_data(std::uint64_t offset, std::span<const std::byte> content, std::uint32_t way) {
    const AlignedMemory memory = aligned_memory(std::max(kPage, block_size_));
    const std::span bytes(memory.get(), content.size());
    std::ranges::copy(content, bytes.begin());
    const std::size_t half = content.size() / 2;
    switch (way % 3) {
      case 0:
        ASSERT_TRUE(device_->write_direct(offset, bytes));
        break;
      case 1:
        ASSERT_TRUE(device_->write(offset, bytes));
        break;
      default:
        ASSERT_TRUE(device_->write(offset, bytes.first(half)));
        ASSERT_TRUE(device_->write(offset + half, bytes.subspan(half)));
    }
  }
  // A new content, in whatever role it is to have now.
  void change(std::size_t number, Block::Role role) {
    Block& block = blocks_[number];
    const bool was_metadata = block.role == Block::Role::kMetadata;
    block.role = role;
    ++block.version;
    const auto content = content_of(number);
    if (role == Block::Role::kData) {
      if (was_metadata) cache_->forget(number, 1);
      write_data(number * block_size_, content, block.version);
      return;
    }
    auto buffer = was_metadata ? cache_->get(number) : cache_->get_new(number, {});
    ASSERT_TRUE(buffer);
    const auto changed = buffer->change();
    ASSERT_TRUE(changed);
    std::memcpy(changed->bytes().data(), content.data(), content.size());
  }
  // Every so many blocks are this thread's: pages of small blocks are shared by all threads.
  void live(unsigned thread, unsigned seed) {
    std::mt19937 random(seed * kThreads + thread);
    for (int step = 0; step < kSteps && !HasFatalFailure(); ++step) {
      const std::size_t number = random() % (blocks_.size() / kThreads) * kThreads + thread;
      read_and_compare(number, "before a change");
      change(number, random() % 2 == 0 ? Block::Role::kData : Block::Role::kMetadata);
      if (random() % 8 == 0) read_and_compare(number, "after a change");
      if (random() % 64 == 0) cache_->shrink();
      // Braces, for the macro has an `if` of its own.
      if (random() % 256 == 0) {
        EXPECT_TRUE(device_->flush());
      }
    }
  }
  // File data in one piece past the page cache, over whatever was there, and all of its blocks changed.
  void write_directly(std::size_t first) {
    const std::size_t count = kDirectPiece / block_size_;
    const AlignedMemory memory = aligned_memory(kDirectPiece);
    for (std::size_t i = 0; i < count; ++i) {
      Block& block = blocks_[first + i];
      if (block.role == Block::Role::kMetadata) cache_->forget(first + i, 1);
      block = {.role = Block::Role::kData, .version = block.version + 1};
      std::memcpy(&memory[i * block_size_], content_of(first + i).data(), block_size_);
    }
    ASSERT_TRUE(device_->write_direct(first * block_size_, std::span(memory.get(), kDirectPiece)));
  }
  // What the medium holds, by a descriptor that no page cache stands before.
  void compare_medium() {
    ASSERT_TRUE(cache_->flush());
    ASSERT_TRUE(device_->flush());
    const AlignedMemory memory = aligned_memory(kDisk);
    ASSERT_EQ(::pread(past_cache_.get(), memory.get(), kDisk, 0), ssize_t{kDisk});
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      ASSERT_EQ(std::memcmp(&memory[i * block_size_], content_of(i).data(), block_size_), 0)
          << "on the medium, block " << i << ": " << words_for(i);
  }
  [[nodiscard]] std::string words_for(std::size_t number) const {
    return fmt::format("{} of version {}", blocks_[number].role == Block::Role::kData ? "data" : "metadata",
                       blocks_[number].version);
  }

  static constexpr int kSteps = 500;
  const std::size_t block_size_ = GetParam().block;
  LoopDisk disk_{GetParam().sector};
  std::unique_ptr<BlockDevice> device_;
  UniqueFd past_cache_;
  std::unique_ptr<BufferCache> cache_;
  std::vector<Block> blocks_;
};

TEST_P(RoleChanges, NobodySeesWhatABlockWas) {
  constexpr unsigned kRounds = 6;
  for (unsigned round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    {
      std::jthread flusher([this](const std::stop_token& stop) {
        for (; !stop.stop_requested(); std::this_thread::sleep_for(std::chrono::microseconds(200)))
          EXPECT_TRUE(cache_->flush());
      });
      std::vector<std::jthread> threads;
      for (unsigned thread = 0; thread < kThreads; ++thread)
        threads.emplace_back([this, thread, round] { live(thread, round); });
    }
    // Every other piece: its neighbours keep what they have, in both caches.
    for (std::size_t at = round % 2 * kDirectPiece; at < kDisk; at += 2 * kDirectPiece)
      write_directly(at / block_size_);
    for (std::size_t i = 0; i < blocks_.size() && !HasFatalFailure(); ++i)
      read_and_compare(i, "after direct writes");
    if (round % 2 == 1) compare_medium();
  }
}

INSTANTIATE_TEST_SUITE_P(BlockSizes, RoleChanges,
                         ::testing::Values(Sizes{1024}, Sizes{2048}, Sizes{4096}, Sizes{65536},
                                           Sizes{.block = 1024, .sector = 4096},
                                           Sizes{.block = 4096, .sector = 4096}),
                         [](const auto& info) {
                           return fmt::format("Of{}InSectorsOf{}", info.param.block, info.param.sector);
                         });

}  // namespace
}  // namespace fuse4fs::cache
