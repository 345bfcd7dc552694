// SPDX-License-Identifier: GPL-2.0-or-later
// The oracle's own parts: steps as text, times, and the reducer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "tests/oracle/differences.h"
#include "tests/oracle/generator.h"
#include "tests/oracle/reducer.h"
#include "tests/oracle/runs.h"
#include "tests/oracle/timeline.h"

namespace fuse4fs::oracle {
namespace {

TEST(Steps, EveryGeneratedStepIsReadBackFromItsText) {
  std::set<Operation> seen;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Generator generator(seed, all_classes());
    for (int i = 0; i < 2000; ++i) {
      const Step step = generator.next(50);
      generator.known().follow(step, {});
      seen.insert(step.operation);
      const std::string text = to_text(step);
      const auto again = parse_step(text);
      ASSERT_TRUE(again) << text;
      ASSERT_EQ(to_text(*again), text);
      ASSERT_EQ(again->path, step.path);
      ASSERT_EQ(again->other, step.other);
      ASSERT_EQ(again->value, step.value);
      ASSERT_EQ(again->flags, step.flags) << text;
    }
  }
  seen.insert(Operation::kCheck);  // made by run_seed()
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(Operation::kCount)) << "some operation is never made";
}

TEST(Steps, BytesOfANameThatAreNoTextComeBack) {
  const Step step{.operation = Operation::kUnlink,
                  .path = std::string("a b\n%{}*\xff") + std::string(300, '%')};
  const auto again = parse_step(to_text(step));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->path, step.path);
}

TEST(Steps, WhatIsNoStepIsRefused) {
  for (const char* line : {"", "nonsense path=a", "mkdir path", "mkdir slot=99", "mkdir path={x*}",
                           "read flags=WHAT", "chmod mode=x", "times accessed=1"})
    EXPECT_FALSE(parse_step(line)) << line;
  std::istringstream lines("# a comment\n\nmkdir path=a\n");
  EXPECT_EQ(read_steps(lines).size(), 1U);
}

TEST(Timelines, TimesOfTheSameStepMatchAndOthersDoNot) {
  Timeline timeline;
  std::array<std::array<Timeline::Nanoseconds, 2>, 3> stamps{};
  for (auto& step : stamps)
    for (const int image : {0, 1}) {
      timeline.begins(image);
      timespec now{};
      ::clock_gettime(CLOCK_REALTIME, &now);
      step[static_cast<std::size_t>(image)] = Timeline::Nanoseconds{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
      timeline.ends(image);
      std::this_thread::sleep_for(std::chrono::milliseconds(40));
    }
  for (const auto& [first, second] : stamps) EXPECT_TRUE(timeline.match(first, second, 1));
  EXPECT_FALSE(timeline.match(stamps[0][0], stamps[1][1], 1));
  EXPECT_FALSE(timeline.match(stamps[2][0], stamps[1][1], 1));
  // Set by hand: equal or wrong.
  EXPECT_TRUE(timeline.match(5, 5, 1));
  EXPECT_FALSE(timeline.match(5, 6, 1));
  EXPECT_FALSE(timeline.match(5, stamps[0][1], 1));
}

TEST(Reducer, KeepsOnlyTheStepsThatAFailureNeeds) {
  std::vector<Step> steps;
  for (int i = 0; i < 100; ++i) steps.push_back({.operation = Operation::kMkdir, .path = std::to_string(i)});
  const auto needed = [](const std::vector<Step>& some) {
    const auto has = [&some](const char* path) { return std::ranges::count(some, path, &Step::path) == 1; };
    return has("17") && has("18") && has("93");
  };
  const auto left = reduce(steps, needed, std::chrono::seconds(60));
  ASSERT_EQ(left.size(), 3U);
  EXPECT_EQ(left[0].path, "17");
  EXPECT_EQ(left[2].path, "93");
}

TEST(Differences, TimesThatTheVolumeCannotStoreAreClamped) {
  const VolumeRules rules;
  EXPECT_EQ(comparable_time({99'999'999'999, 7}, rules).tv_sec, 15'032'385'535);
  EXPECT_EQ(comparable_time({-3'000'000'000, 7}, rules).tv_sec, -2'147'483'648);
  EXPECT_EQ(comparable_time({1, 7}, rules).tv_nsec, 7);
}

TEST(Differences, EdgesCountWhereBlocksAreNotSmallerThanPages) {
  Entry entry;
  entry.status.stx_size = 20'000;
  entry.edges = {1024, 2048, 5120, 6144, 16'384, 20'000};
  EXPECT_EQ(comparable_edges(entry, {.block_size = 4096}), entry.edges);
  EXPECT_EQ(comparable_edges(entry, {.block_size = 1024}), std::vector<std::int64_t>{});
}

}  // namespace
}  // namespace fuse4fs::oracle
