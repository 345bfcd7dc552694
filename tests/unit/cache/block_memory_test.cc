// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/cache/block_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

namespace fuse4fs::cache {
namespace {

constexpr std::size_t kPage = 4096;

class Memory : public ::testing::TestWithParam<std::size_t> {};

TEST_P(Memory, PiecesAreApartAndAligned) {
  const std::size_t size = GetParam();
  BlockMemory memory(size);
  std::vector<BlockMemory::Piece> pieces;
  std::set<std::byte*> places;
  for (unsigned i = 0; i < 2000; ++i) {
    pieces.push_back(memory.take());
    std::memset(pieces.back().get(), static_cast<int>(i), size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pieces.back().get()) % std::min(size, kPage), 0U);
    places.insert(pieces.back().get());
  }
  EXPECT_EQ(places.size(), pieces.size());
  for (unsigned i = 0; i < pieces.size(); i += 2) pieces[i].reset();
  memory.trim();
  for (unsigned i = 1; i < pieces.size(); i += 2) {
    EXPECT_EQ(pieces[i][0], static_cast<std::byte>(i)) << "what is in use stays";
    EXPECT_EQ(pieces[i][size - 1], static_cast<std::byte>(i));
  }
}

#ifndef FUSE4FS_SANITIZED
bool is_resident(const std::byte* page) {
  unsigned char resident = 0;
  EXPECT_EQ(::mincore(const_cast<std::byte*>(page), kPage, &resident), 0);
  return (resident & 1) != 0;
}

TEST_P(Memory, WhatNobodyHasGoesBackInWholePages) {
  const std::size_t size = GetParam();
  BlockMemory memory(size);
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  std::vector<BlockMemory::Piece> pieces;
  std::set<std::byte*> pages;
  while (pieces.size() * size < kBytes) {
    pieces.push_back(memory.take());
    std::memset(pieces.back().get(), 1, size);
    for (std::size_t at = 0; at < size; at += kPage) {
      const auto number = reinterpret_cast<std::uintptr_t>(pieces.back().get() + at) / kPage;
      pages.insert(reinterpret_cast<std::byte*>(number * kPage));
    }
  }
  ASSERT_EQ(pages.size(), kBytes / kPage);
  // One is kept, and the page that it lies in.
  const auto kept = std::move(pieces[pieces.size() / 2]);
  pieces.clear();
  memory.trim();
  const std::size_t pages_kept = std::max(size, kPage) / kPage;
  EXPECT_EQ(std::ranges::count_if(pages, is_resident), static_cast<std::ptrdiff_t>(pages_kept));
  EXPECT_EQ(kept[0], std::byte{1});
  // And the next ones take its place again.
  for (std::size_t i = 0; i < 8; ++i) std::memset(pieces.emplace_back(memory.take()).get(), 2, size);
  EXPECT_EQ(kept[size - 1], std::byte{1});
}
#endif

INSTANTIATE_TEST_SUITE_P(BlockSizes, Memory, ::testing::Values(1024, 4096, 65536));

}  // namespace
}  // namespace fuse4fs::cache
