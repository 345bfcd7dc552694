// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/range_claims.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

namespace fuse4fs::ext4 {
namespace {

using Mode = RangeClaims::Mode;

TEST(RangeClaims, WhatDoesNotOverlapGoesSideBySide) {
  RangeClaims claims;
  const auto a = claims.claim(1, 0, 10, Mode::kExclusive);
  const auto b = claims.claim(1, 10, 20, Mode::kExclusive);
  const auto c = claims.claim(2, 0, 10, Mode::kExclusive);
  const auto d = claims.claim(1, 20, 30, Mode::kShared);
  const auto e = claims.claim(1, 25, RangeClaims::kToTheEnd, Mode::kShared);
}

TEST(RangeClaims, WaitersComeInTurn) {
  RangeClaims claims;
  std::atomic<int> turn = 0;
  std::optional<RangeClaims::Claim> reader(claims.claim(1, 0, 10, Mode::kShared));
  int writer_turn = 0;
  int late_reader_turn = 0;
  std::thread writer([&] {
    const auto claim = claims.claim(1, 5, 15, Mode::kExclusive);
    writer_turn = ++turn;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  // It could share with the first reader, but would then keep the writer waiting for ever.
  std::thread late_reader([&] {
    const auto claim = claims.claim(1, 0, 10, Mode::kShared);
    late_reader_turn = ++turn;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(turn, 0);
  reader.reset();
  writer.join();
  late_reader.join();
  EXPECT_EQ(writer_turn, 1);
  EXPECT_EQ(late_reader_turn, 2);
}

TEST(RangeClaims, KeepWritersApart) {
  RangeClaims claims;
  std::array<int, 64> cells{};  // plain: the thread sanitizer watches as well
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5000; ++i) {
        const auto begin = static_cast<std::size_t>((i * 7 + t * 13) % 60);
        const auto claim = claims.claim(9, begin, begin + 4, Mode::kExclusive);
        for (std::size_t j = begin; j < begin + 4; ++j) ++cells[j];
      }
    });
  }
  for (auto& thread : threads) thread.join();
  int sum = 0;
  for (const int cell : cells) sum += cell;
  EXPECT_EQ(sum, 4 * 5000 * 4);
}

}  // namespace
}  // namespace fuse4fs::ext4
