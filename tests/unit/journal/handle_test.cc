// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/journal/handle.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace fuse4fs::journal {
namespace {

TEST(Handle, SeveralAreOpenAtOnce) {
  Journal journal;
  std::atomic<int> open{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      const Handle handle = journal.start({.blocks = 1});
      ++open;
      while (open < 2) std::this_thread::yield();
    });
}

TEST(Handle, APauseWaitsForThemAndHoldsNewOnesOff) {
  Journal journal;
  std::optional<Handle> handle(journal.start({.blocks = 1}));
  std::atomic<bool> paused{false}, over{false};
  std::jthread pauser([&] {
    const auto pause = journal.pause();
    paused = true;
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    over = true;
  });
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(paused);
    std::this_thread::yield();
  }
  handle.reset();
  while (!paused) std::this_thread::yield();
  const Handle next = journal.start({.blocks = 1});
  EXPECT_TRUE(over);
}

TEST(Handle, ThatWasMovedEndsOnce) {
  Journal journal;
  {
    Handle first = journal.start({.blocks = 1});
    const Handle second = std::move(first);
  }
  const auto pause = journal.pause();
}

// Nobody sees a half: a change of two numbers under handles, looked at under pauses, from many threads.
TEST(Handle, WhoPausesSeesNoHalfOfAChange) {
  Journal journal;
  std::atomic<int> one{0}, other{0};
  std::atomic<int> running{3};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 2000; ++turn) {
        const Handle handle = journal.start({.blocks = 2});
        ++one;
        ++other;
      }
      --running;
    });
  while (running != 0) {
    const auto pause = journal.pause();
    EXPECT_EQ(one, other);
  }
}

}  // namespace
}  // namespace fuse4fs::journal
