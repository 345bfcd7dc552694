// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/direct_backend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kSector = 4096;
constexpr std::size_t kSize = 64 * kSector;

// In memory; takes nothing but direct transfers as a device would.
class StrictDevice final : public BlockBackend {
 public:
  [[nodiscard]] Geometry geometry() const override {
    return {.size = kSize, .sector = kSector, .has_direct = true};
  }
  Result<void> read(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) override {
    judge(path, offset, pieces);
    for (const iovec& piece : pieces) {
      std::memcpy(piece.iov_base, bytes.data() + offset, piece.iov_len);
      offset += piece.iov_len;
    }
    return {};
  }
  Result<void> write(IoPath path, std::uint64_t offset, std::span<const iovec> pieces,
                     Durability how) override {
    judge(path, offset, pieces);
    durable = how == Durability::kAtOnce;
    for (const iovec& piece : pieces) {
      std::memcpy(bytes.data() + offset, piece.iov_base, piece.iov_len);
      offset += piece.iov_len;
    }
    return {};
  }
  Result<void> flush() override { return {}; }
  Result<void> discard(std::uint64_t, std::uint64_t) override { return {}; }
  Result<void> can_discard() override { return fail(EOPNOTSUPP); }

  std::vector<char> bytes = std::vector<char>(kSize);
  bool durable = false;
  std::size_t transfers = 0;

 private:
  void judge(IoPath path, std::uint64_t offset, std::span<const iovec> pieces) {
    ++transfers;
    EXPECT_EQ(path, IoPath::kDirect);
    EXPECT_EQ(offset % kSector, 0U);
    for (const iovec& piece : pieces) {
      EXPECT_EQ(piece.iov_len % kSector, 0U);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece.iov_base) % kSector, 0U);
    }
  }
};

class DirectBackendTest : public testing::Test {
 protected:
  StrictDevice* device_ = new StrictDevice;
  DirectBackend backend_{std::unique_ptr<BlockBackend>(device_)};
};

TEST_F(DirectBackendTest, AnyTransferIsADirectOneAndRight) {
  std::mt19937 random(7);
  std::vector<char> shadow(kSize);
  for (int i = 0; i < 2000; ++i) {
    const std::size_t offset = random() % kSize;
    const std::size_t length = 1 + random() % std::min<std::size_t>(kSize - offset, 3 * kSector);
    std::vector<char> memory(length + 64);
    // In pieces that end anywhere.
    std::vector<iovec> pieces;
    for (std::size_t at = 0; at < length;) {
      const std::size_t part = std::min<std::size_t>(length - at, 1 + random() % kSector);
      pieces.push_back({memory.data() + at, part});
      at += part;
    }
    const auto path = random() % 2 == 0 ? IoPath::kPageCache : IoPath::kDirect;
    if (random() % 2 == 0) {
      for (char& byte : memory) byte = static_cast<char>(random());
      std::memcpy(shadow.data() + offset, memory.data(), length);
      ASSERT_TRUE(backend_.write(path, offset, pieces, Durability::kAtNextFlush));
    } else {
      ASSERT_TRUE(backend_.read(path, offset, pieces));
      ASSERT_EQ(std::memcmp(memory.data(), shadow.data() + offset, length), 0);
    }
  }
  EXPECT_EQ(device_->bytes, shadow);
}

TEST_F(DirectBackendTest, WhatIsAlignedIsNotCopied) {
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  const std::unique_ptr<char, Free> memory(static_cast<char*>(std::aligned_alloc(kSector, 2 * kSector)));
  std::memset(memory.get(), 'x', 2 * kSector);
  const iovec piece{memory.get(), 2 * kSector};
  ASSERT_TRUE(backend_.write(IoPath::kPageCache, kSector, std::span(&piece, 1), Durability::kAtOnce));
  EXPECT_EQ(device_->transfers, 1U);
  EXPECT_TRUE(device_->durable);
}

TEST_F(DirectBackendTest, AllOfADurableWriteIsDurable) {
  std::vector<char> memory(100, 'x');
  const iovec piece{memory.data(), memory.size()};
  ASSERT_TRUE(backend_.write(IoPath::kPageCache, 10, std::span(&piece, 1), Durability::kAtOnce));
  EXPECT_TRUE(device_->durable);
  EXPECT_EQ(device_->bytes[9], 0);
  EXPECT_EQ(device_->bytes[10], 'x');
  EXPECT_EQ(device_->bytes[110], 0);
}

}  // namespace
}  // namespace fuse4fs::cache
