// SPDX-License-Identifier: GPL-2.0-or-later
// A server that means harm at each step of the protocol, and a user who loses patience at each: after all of
// them there is no mount, no loop device, no record and no server.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/unit/helper/program_fixture.h"

namespace fuse4fs::helper {
namespace {

using testing::Attack;
using testing::Behaviour;
using ::testing::HasSubstr;
using testing::kSteps;
using testing::processes_of;
using testing::soon;
using testing::text_of_file;

using HostileServerTest = testing::ProgramTest;

TEST_F(HostileServerTest, NoAttackLeavesATrace) {
  struct Case {
    Attack attack;
    const char* name;
    std::vector<int> steps;
    const char* words;  // at every step but the greeting
  };
  const Case cases[] = {
      {Attack::kClose, "close", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "the server ended with status 9"},
      {Attack::kGarbage, "garbage", {0, 1, 9}, "the server broke off (Bad message)"},
      {Attack::kShort, "short", {6}, "the server broke off (Bad message)"},
      {Attack::kLong, "long", {2}, "the server broke off (Message too long)"},
      {Attack::kFlood, "flood", {9}, "it makes no end of asking"},
      {Attack::kPush, "push", {1, 9}, "the server "},
      {Attack::kImpostor, "impostor", {0, 1, 9}, "the server broke off (Bad message)"},
  };
  for (const auto& [attack, name, steps, words] : cases) {
    for (const int step : steps) {
      SCOPED_TRACE(fmt::format("{} before step {}", name, step));
      plan_attack(attack, step);
      const Ended ended = mount(Behaviour::kServe);
      EXPECT_EQ(ended.status, 32);
      EXPECT_THAT(ended.words, HasSubstr(step == 0 ? "is not mounted on" : words));
      expect_no_trace();
    }
  }
  // And an honest one is mounted, all the same.
  plan_attack(Attack::kNone, 0);
  EXPECT_EQ(mount(Behaviour::kServe).status, 0);
}

TEST_F(HostileServerTest, ASilentOneIsGivenUp) {
  for (const int step : {0, 1, 7, 9}) {
    SCOPED_TRACE(step);
    plan_attack(Attack::kHang, step);
    const Ended ended = mount(Behaviour::kServe, "start-timeout=1");
    EXPECT_EQ(ended.status, 32);
    EXPECT_THAT(ended.words, HasSubstr("does not answer in time (start-timeout=1)"));
    expect_no_trace();
  }
}

TEST_F(HostileServerTest, AnInterruptionAtEachStepUndoesEverything) {
  for (int step = 0; step < kSteps; ++step) {
    const int signal = step % 2 == 0 ? SIGTERM : SIGINT;
    SCOPED_TRACE(fmt::format("signal {} at step {}", signal, step));
    plan_attack(Attack::kHang, step);
    const pid_t helper = start({image_, mount_point_, "-o", "standalone"});
    // The helper shows what the server says once it listens to its commands.
    const bool there = soon([&] {
      if (step == 0) return !processes_of(server_).empty();
      return text_of_file(directory_.path("words")).find(fmt::format("at step {}\n", step)) !=
             std::string::npos;
    });
    EXPECT_TRUE(there);
    EXPECT_EQ(record().has_value(), step > 6);
    ::kill(helper, signal);
    const Ended ended = wait(helper);
    EXPECT_EQ(ended.status, 8) << ended.words;
    expect_no_trace();
  }
}

}  // namespace
}  // namespace fuse4fs::helper
