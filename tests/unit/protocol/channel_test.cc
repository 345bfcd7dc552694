// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/channel.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tests/unit/protocol/support.h"

namespace fuse4fs::protocol::testing {
namespace {

using std::chrono::milliseconds;

Errno error_of(const auto& result) { return result ? Errno(ENOMSG) : result.error(); }

bool same_file(int a, int b) {
  struct stat one;
  struct stat other;
  return ::fstat(a, &one) == 0 && ::fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

TEST(Channel, AdoptsConnectedSeqpacketOnly) {
  const LeakCheck leaks;
  EXPECT_EQ(error_of(Channel::adopt(UniqueFd())), Errno(EBADF));
  EXPECT_EQ(error_of(Channel::adopt(open_null())), Errno(ENOTSOCK));
  EXPECT_EQ(error_of(Channel::adopt(UniqueFd(::socket(AF_INET, SOCK_DGRAM, 0)))), Errno(EAFNOSUPPORT));
  EXPECT_EQ(error_of(Channel::adopt(std::move(SocketPair(SOCK_STREAM).one))), Errno(EPROTOTYPE));
  EXPECT_EQ(error_of(Channel::adopt(std::move(SocketPair(SOCK_DGRAM).one))), Errno(EPROTOTYPE));
}

TEST(Channel, AdoptsIntoBlockingCloseOnExec) {
  std::array<int, 2> fds{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds.data()), 0);
  const UniqueFd other(fds[1]);
  const Channel channel = channel_of(UniqueFd(fds[0]));
  EXPECT_EQ(::fcntl(channel.fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(channel.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(Channel, CarriesPacketsAndDescriptors) {
  const LeakCheck leaks;
  SocketPair pair;
  Channel one = channel_of(std::move(pair.one));
  Channel other = channel_of(std::move(pair.other));
  const UniqueFd null = open_null();
  const Bytes hello = bytes_of("'hello'");
  ASSERT_TRUE(one.send(hello));
  ASSERT_TRUE(one.send(hello, null.get()));
  const auto plain = other.receive(Descriptors::kAtMostOne);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->bytes, hello);
  EXPECT_FALSE(plain->fd);
  const auto with_fd = other.receive(Descriptors::kAtMostOne, milliseconds(1000));
  ASSERT_TRUE(with_fd);
  EXPECT_EQ(with_fd->bytes, hello);
  EXPECT_TRUE(same_file(with_fd->fd.get(), null.get()));
  EXPECT_EQ(::fcntl(with_fd->fd.get(), F_GETFD), FD_CLOEXEC);
}

TEST(Channel, TheLargestPacketFitsAndNoLarger) {
  SocketPair pair;
  Channel one = channel_of(std::move(pair.one));
  Channel other = channel_of(std::move(pair.other));
  const Bytes largest(65536, std::byte{7});
  ASSERT_TRUE(one.send(largest));
  EXPECT_EQ(other.receive(Descriptors::kRefused)->bytes, largest);
  EXPECT_EQ(error_of(one.send(Bytes(65537))), Errno(EMSGSIZE));
  send_raw(one.fd(), Bytes(65537));
  EXPECT_EQ(error_of(other.receive(Descriptors::kRefused)), Errno(EMSGSIZE));
}

TEST(Channel, SurplusDescriptorsAreRefusedWithoutALeak) {
  const LeakCheck leaks;
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  const UniqueFd null = open_null();
  for (const std::size_t count : {2UL, 3UL, 16UL, 253UL}) {
    send_raw(pair.other.get(), bytes_of("'x'"), std::vector<int>(count, null.get()));
    const int before = open_descriptors();
    EXPECT_EQ(error_of(channel.receive(Descriptors::kAtMostOne)), Errno(EBADMSG)) << count;
    EXPECT_EQ(open_descriptors(), before) << count;
  }
  for (const std::size_t count : {1UL, 2UL, 253UL}) {
    send_raw(pair.other.get(), bytes_of("'x'"), std::vector<int>(count, null.get()));
    EXPECT_EQ(error_of(channel.receive(Descriptors::kRefused)), Errno(EBADMSG)) << count;
  }
  // An oversized packet closes its descriptor as well.
  send_raw(pair.other.get(), Bytes(65537), std::array{null.get()});
  EXPECT_EQ(error_of(channel.receive(Descriptors::kAtMostOne)), Errno(EMSGSIZE));
  // And the channel itself is none the worse.
  send_raw(pair.other.get(), bytes_of("'x'"), std::array{null.get()});
  EXPECT_TRUE(channel.receive(Descriptors::kAtMostOne));
}

TEST(Channel, OtherControlDataIsRefused) {
  SocketPair pair;
  const int on = 1;
  ASSERT_EQ(::setsockopt(pair.one.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
  Channel channel = channel_of(std::move(pair.one));
  send_raw(pair.other.get(), bytes_of("'x'"));
  EXPECT_EQ(error_of(channel.receive(Descriptors::kAtMostOne)), Errno(EBADMSG));
}

TEST(Channel, NamesTheSenderAndStillRefusesDescriptors) {
  const LeakCheck leaks;
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  ASSERT_TRUE(channel.identify_senders());
  const UniqueFd null = open_null();
  for (const auto descriptors : {Descriptors::kRefused, Descriptors::kAtMostOne}) {
    send_raw(pair.other.get(), bytes_of("'x'"));
    const auto packet = channel.receive(descriptors);
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->sender, ::getpid());
    // The room for the sender is no room for a descriptor.
    send_raw(pair.other.get(), bytes_of("'x'"), std::array{null.get()});
    EXPECT_EQ(static_cast<bool>(channel.receive(descriptors)), descriptors == Descriptors::kAtMostOne);
  }
}

TEST(Channel, AnotherProcessIsNotThePeer) {
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  ASSERT_TRUE(channel.identify_senders());
  HelperEnd end(std::move(channel));
  end.expect_peer(::getpid());
  send_raw(pair.other.get(), encode(Command(OpenFsContext{.fuseblk = true})));
  EXPECT_TRUE(end.next_command());
  const pid_t child = ::fork();
  if (child == 0) {
    send_raw(pair.other.get(), encode(Command(Goodbye{0})));
    ::_exit(0);
  }
  EXPECT_EQ(error_of(end.next_command()), Errno(EBADMSG));
  ::waitpid(child, nullptr, 0);
}

TEST(Channel, AnAnswerThatIsNotReadDoesNotHoldTheSender) {
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  ASSERT_TRUE(channel.limit_sending(milliseconds(20)));
  Result<void> sent;
  while (sent) sent = channel.send(Bytes(1024));
  EXPECT_EQ(error_of(sent), Errno(ETIMEDOUT));
}

TEST(Channel, TheOtherEndsDeathIsAnError) {
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  send_raw(pair.other.get(), Bytes{});  // an empty packet is no message
  EXPECT_EQ(error_of(channel.receive(Descriptors::kRefused)), Errno(ECONNRESET));
  pair.other.reset();
  EXPECT_EQ(error_of(channel.receive(Descriptors::kAtMostOne)), Errno(ECONNRESET));
  // Would be SIGPIPE, and the end of this test, without MSG_NOSIGNAL.
  EXPECT_EQ(error_of(channel.send(bytes_of("'x'"))), Errno(ECONNRESET));
}

TEST(Channel, WaitsNoLongerThanTold) {
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(error_of(channel.receive(Descriptors::kRefused, milliseconds(30))), Errno(ETIMEDOUT));
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(30));
  EXPECT_EQ(error_of(channel.receive(Descriptors::kRefused, milliseconds(0))), Errno(ETIMEDOUT));
}

TEST(Channel, InterruptionsAreNotErrors) {
  // No SA_RESTART: each signal makes the system call fail with EINTR.
  struct sigaction action{};
  struct sigaction previous{};
  action.sa_handler = [](int) {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &previous), 0);
  for (const auto timeout : {std::optional<milliseconds>(), std::optional(milliseconds(10000))}) {
    SocketPair pair;
    Channel channel = channel_of(std::move(pair.one));
    const pthread_t receiver = ::pthread_self();
    std::thread disturber([&] {
      for (int i = 0; i < 20; ++i) {
        std::this_thread::sleep_for(milliseconds(2));
        ::pthread_kill(receiver, SIGUSR1);
      }
      send_raw(pair.other.get(), bytes_of("'x'"));
    });
    EXPECT_TRUE(channel.receive(Descriptors::kRefused, timeout));
    disturber.join();
  }
  ::sigaction(SIGUSR1, &previous, nullptr);
}

TEST(Channel, DescriptorsCanBeRefusedForGood) {
  const LeakCheck leaks;
  SocketPair pair;
  Channel channel = channel_of(std::move(pair.one));
  channel.refuse_descriptors();
  const UniqueFd null = open_null();
  Channel sender = channel_of(std::move(pair.other));
  // Kernels since 6.16 refuse the sender; on older ones the packet arrives and is refused here.
  const auto sent = sender.send(bytes_of("'x'"), null.get());
  EXPECT_EQ(sent ? error_of(channel.receive(Descriptors::kRefused)) : sent.error(),
            sent ? Errno(EBADMSG) : Errno(EPERM));
}

}  // namespace
}  // namespace fuse4fs::protocol::testing
