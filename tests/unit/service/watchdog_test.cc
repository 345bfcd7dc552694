// SPDX-License-Identifier: GPL-2.0-or-later
// When a sign of life is due, by a clock that the tests turn.
#include "server/service/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

namespace fuse4fs::service {
namespace {

using namespace std::chrono_literals;

TEST(WatchdogLimit, IsWhatSystemdSays) {
  EXPECT_EQ(watchdog_limit("180000000", "42", 42), 3min);
  EXPECT_EQ(watchdog_limit("180000000", nullptr, 42), 3min);
  EXPECT_EQ(watchdog_limit("9223372036854775807", "42", 42), 24h);
  for (const char* text : {"", "0", "-5", "5s", " 5", "5 ", "99999999999999999999", "0x5"})
    EXPECT_FALSE(watchdog_limit(text, "42", 42)) << text;
  EXPECT_FALSE(watchdog_limit(nullptr, "42", 42));
  for (const char* pid : {"41", "", "42x", "-42"}) EXPECT_FALSE(watchdog_limit("5", pid, 42)) << pid;
}

// A thread that does what it is told, so that each row is written by its own thread.
class Hand {
 public:
  Hand(Activity& activity, std::size_t member)
      : thread_([this, &activity, member] { serve(activity, member); }) {}
  ~Hand() { tell(Order::kLeave); }
  void begin() { tell(Order::kBegin); }
  void step() { tell(Order::kStep); }
  void end() { tell(Order::kEnd); }

 private:
  enum class Order { kNone, kBegin, kStep, kEnd, kLeave };

  void tell(Order order) {
    order_ = order;
    order_.notify_one();
    order_.wait(order);
  }
  void serve(Activity& activity, std::size_t number) {
    const Activity::Member member(activity, number);
    std::unique_ptr<Activity::Turn> turn;
    for (;;) {
      order_.wait(Order::kNone);
      const Order order = order_;
      if (order == Order::kBegin) turn = std::make_unique<Activity::Turn>();
      if (order == Order::kStep) Activity::step();
      if (order == Order::kEnd || order == Order::kLeave) turn.reset();
      order_ = Order::kNone;
      order_.notify_one();
      if (order == Order::kLeave) return;
    }
  }

  std::atomic<Order> order_ = Order::kNone;
  std::jthread thread_;
};

class WatchdogTest : public ::testing::Test {
 protected:
  static constexpr auto kLimit = 100s;

  // How long it takes, at the most `longest`, until no sign of life is due, `meanwhile` being done before
  // each look.
  std::chrono::seconds lives(std::chrono::seconds longest, const std::function<void()>& meanwhile = {}) {
    std::chrono::seconds lived{0};
    for (; lived < longest; lived += 25s) {
      if (meanwhile) meanwhile();
      now_ += 25s;
      if (!watchdog_.look(now_)) break;
    }
    return lived;
  }

  Activity activity_{3};
  Hand first_{activity_, 0}, second_{activity_, 1}, main_{activity_, 2};
  Watchdog watchdog_{activity_, 2, kLimit};
  Watchdog::TimePoint now_{1h};
  void SetUp() override {
    ASSERT_EQ(watchdog_.interval(), 25s);
    ASSERT_TRUE(watchdog_.look(now_));
  }
};

TEST_F(WatchdogTest, AnIdleServerLives) { EXPECT_EQ(lives(2h), 2h); }

TEST_F(WatchdogTest, ARequestThatHangsIsTheEndAfterOneLimit) {
  first_.begin();
  // The first look sees that it began.
  EXPECT_EQ(lives(2h), kLimit);
  // And goes on being so, until it moves again.
  EXPECT_EQ(lives(2h), 0s);
  first_.end();
  EXPECT_EQ(lives(2h), 2h);
}

TEST_F(WatchdogTest, ASlowDeviceIsNotHung) {
  first_.begin();
  EXPECT_EQ(lives(10h, [&] { first_.step(); }), 10h);
}

TEST_F(WatchdogTest, RequestsThatComeAndGoLive) {
  EXPECT_EQ(lives(10h,
                  [&] {
                    first_.begin();
                    first_.end();
                    first_.begin();
                  }),
            10h);
}

TEST_F(WatchdogTest, WhoWaitsForAnotherIsExcusedForFiveLimits) {
  first_.begin();
  second_.begin();
  EXPECT_EQ(lives(10h, [&] { second_.step(); }), 5 * kLimit);
}

TEST_F(WatchdogTest, OneThatHangsAmongManyThatDoNotIsFound) {
  first_.begin();
  EXPECT_EQ(lives(10h,
                  [&] {
                    second_.begin();
                    second_.end();
                  }),
            5 * kLimit);
}

TEST_F(WatchdogTest, TheMainThreadIsExcusedForFiveLimitsOnly) {
  main_.begin();
  EXPECT_EQ(lives(10h, [&] { main_.step(); }), 5 * kLimit);
  main_.end();
  EXPECT_EQ(lives(10h), 10h);
  main_.begin();
  EXPECT_EQ(lives(10h), kLimit);
}

TEST_F(WatchdogTest, TheMainThreadsTurnsExcuseNobodyButItsTransfersDo) {
  first_.begin();
  EXPECT_EQ(lives(10h,
                  [&] {
                    main_.begin();
                    main_.end();
                  }),
            kLimit);
  first_.end();
  EXPECT_EQ(lives(1h), 1h);
  first_.begin();
  EXPECT_EQ(lives(10h,
                  [&] {
                    main_.begin();
                    main_.step();
                    main_.end();
                  }),
            5 * kLimit);
}

TEST_F(WatchdogTest, TimeInWhichNobodyLookedDoesNotCount) {
  first_.begin();
  ASSERT_TRUE(watchdog_.look(now_ += 25s));
  // The machine slept.
  EXPECT_TRUE(watchdog_.look(now_ += 10h));
  EXPECT_TRUE(watchdog_.look(now_ += 25s));
  EXPECT_FALSE(watchdog_.look(now_ += 25s));
}

TEST(ActivityTest, CountsOnlyMembersAndTheOuterTurn) {
  Activity activity(1);
  {
    const Activity::Turn nobodys;
    Activity::step();
  }
  EXPECT_EQ(activity.of(0), (Activity::Seen{0, 0}));
  const Activity::Member member(activity, 0);
  {
    const Activity::Turn outer;
    const Activity::Turn inner;
    Activity::step();
    EXPECT_TRUE(activity.of(0).in_work());
  }
  EXPECT_EQ(activity.of(0), (Activity::Seen{2, 1}));
}

}  // namespace
}  // namespace fuse4fs::service
