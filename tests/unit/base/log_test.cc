// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace fuse4fs {
namespace {

class LogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_writer([this](LogLevel level, std::string_view line, const LogDetails&) {
      lines_.emplace_back(level, line);
    });
  }
  void TearDown() override {
    set_log_writer([](LogLevel, std::string_view, const LogDetails&) {});
    set_log_level(LogLevel::kInfo);
  }
  std::vector<std::pair<LogLevel, std::string>> lines_;
};

TEST_F(LogTest, FormatsAndPassesTheLevelOn) {
  log_error("{} of {}", 1, "sda");
  log_warning("w");
  log_info("i");
  using Line = std::pair<LogLevel, std::string>;
  EXPECT_EQ(lines_, (std::vector<Line>{
                        {LogLevel::kError, "1 of sda"}, {LogLevel::kWarning, "w"}, {LogLevel::kInfo, "i"}}));
}

TEST_F(LogTest, TheLevelIsAThreshold) {
  log_debug("not yet");
  log_line(LogLevel::kDebug, "nor this");
  EXPECT_TRUE(lines_.empty());
  set_log_level(LogLevel::kDebug);
  log_debug("now");
  EXPECT_EQ(lines_.size(), 1U);
  set_log_level(LogLevel::kError);
  log_warning("dropped");
  EXPECT_FALSE(log_enabled(LogLevel::kWarning));
  EXPECT_EQ(lines_.size(), 1U);
}

TEST_F(LogTest, LinesOfManyThreadsAllArrive) {
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([i] {
        for (int j = 0; j < 100; ++j) log_info("thread {} line {}", i, j);
      });
    }
  }
  EXPECT_EQ(lines_.size(), 400U);
}

}  // namespace
}  // namespace fuse4fs
