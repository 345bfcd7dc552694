// SPDX-License-Identifier: GPL-2.0-or-later
// What systemd hears, and when it hears nothing.
#include "server/service/notifier.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

namespace fuse4fs::service {
namespace {

using namespace std::chrono_literals;

class NotifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    notifier_ = Notifier(UniqueFd(ends[0]));
    systemd_ = UniqueFd(ends[1]);
  }
  std::string heard() {
    std::array<char, 4096> bytes{};
    const auto size = ::recv(systemd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    return size < 0 ? "nothing" : std::string(bytes.data(), static_cast<std::size_t>(size));
  }
  // Until the socket takes no more.
  int fill() {
    int messages = 0;
    while (::send(notifier_.fd(), "x", 1, MSG_DONTWAIT) == 1) ++messages;
    return messages;
  }
  void empty(int messages) {
    for (int i = 0; i < messages; ++i) EXPECT_EQ(heard(), "x");
  }
  Notifier notifier_;
  UniqueFd systemd_;
};

TEST_F(NotifierTest, SaysWhatChanges) {
  notifier_.ready("all free");
  EXPECT_EQ(heard(), "READY=1\nSTATUS=all free");
  notifier_.status("all free");
  EXPECT_EQ(heard(), "nothing");
  notifier_.status("half full");
  EXPECT_EQ(heard(), "STATUS=half full");
  notifier_.alive(2min);
  EXPECT_EQ(heard(), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=120000000");
  notifier_.stopping("unmounting");
  EXPECT_EQ(heard(), "STOPPING=1\nSTATUS=unmounting");
}

TEST_F(NotifierTest, NeverWaitsAndTriesTheStatusAgain) {
  notifier_.ready("a");
  EXPECT_EQ(heard(), "READY=1\nSTATUS=a");
  const int messages = fill();
  notifier_.status("b");
  notifier_.alive(1s);
  empty(messages);
  EXPECT_EQ(heard(), "nothing");
  notifier_.status("b");
  EXPECT_EQ(heard(), "STATUS=b");
}

TEST_F(NotifierTest, ReadyWaitsForRoom) {
  const int messages = fill();
  std::thread server([&] { notifier_.ready("a"); });
  empty(messages);
  std::array<char, 4096> bytes{};
  EXPECT_EQ(::recv(systemd_.get(), bytes.data(), bytes.size(), 0), 16);
  EXPECT_STREQ(bytes.data(), "READY=1\nSTATUS=a");
  server.join();
}

TEST_F(NotifierTest, SurvivesTheEndOfTheOtherSide) {
  systemd_.reset();
  notifier_.ready("a");
  notifier_.status("b");
  notifier_.alive(1s);
  notifier_.stopping("c");
}

TEST(Notifier, SaysNothingWithoutASocket) {
  Notifier none;
  EXPECT_FALSE(none.connected());
  none.ready("a");
  none.stopping("a");
  none.alive(1s);
}

TEST(Notifier, TakesNothingButADatagramSocket) {
  EXPECT_FALSE(Notifier(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))).connected());
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd other(ends[1]);
  EXPECT_FALSE(Notifier(UniqueFd(ends[0])).connected());
}

TEST(MountStatus, IsOnePlainLine) {
  MountStatus status{.device = "/dev/sdb1", .mount_point = "/mnt"};
  EXPECT_EQ(text_of(status), "/dev/sdb1 on /mnt: no errors");
  status.size = std::uint64_t{57} << 30;
  status.free = (std::uint64_t{12} << 30) + (300 << 20);
  EXPECT_EQ(text_of(status), "/dev/sdb1 on /mnt: 12.3 GiB of 57.0 GiB free, no errors");
  status.read_only = true;
  status.errors = 1;
  status.free = 1000;
  EXPECT_EQ(text_of(status),
            "/dev/sdb1 on /mnt, read-only: 1000 B of 57.0 GiB free, 1 error, see the journal");
  status.errors = 7;
  status.mount_point = "/m\nREADY=1\xff";
  EXPECT_EQ(
      text_of(status),
      "/dev/sdb1 on \"/m\\x0aREADY=1\\xff\", read-only: 1000 B of 57.0 GiB free, 7 errors, see the journal");
}

}  // namespace
}  // namespace fuse4fs::service
