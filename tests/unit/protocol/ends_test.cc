// SPDX-License-Identifier: GPL-2.0-or-later
// Each end against packets written by hand, and the two against each other.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "protocol/arguments.h"
#include "protocol/channel.h"
#include "tests/unit/protocol/support.h"

namespace fuse4fs::protocol::testing {
namespace {

using std::chrono::milliseconds;

Errno error_of(const auto& result) { return result ? Errno(ENOMSG) : result.error(); }

struct EndsTest : ::testing::Test {
  LeakCheck leaks;
  SocketPair pair;
  UniqueFd null = open_null();

  // What the other end writes ahead of time; the socket keeps it in order.
  void queue(std::string_view packet, std::size_t descriptors = 0) {
    send_raw(pair.other.get(), bytes_of(packet), std::vector<int>(descriptors, null.get()));
  }
  ServerEnd server() { return ServerEnd(channel_of(std::move(pair.one))); }
  HelperEnd helper() { return HelperEnd(channel_of(std::move(pair.one))); }
};

using ServerEndTest = EndsTest;
using HelperEndTest = EndsTest;

TEST_F(ServerEndTest, Greets) {
  queue("53414654 0001 0001 00000002");
  queue("46494c45 00000000 'argv' 00", 1);
  queue("46494c45 00000000 'fusedev' 00", 1);
  ServerEnd end = server();
  const auto greeting = end.greet();
  ASSERT_TRUE(greeting);
  EXPECT_TRUE(greeting->hello.may_use_fuseblk);
  EXPECT_TRUE(greeting->arguments && greeting->fuse_device);
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("4c415354 0001 0000"));
  EXPECT_FALSE(end.broken());
}

TEST_F(ServerEndTest, ChoosesOurVersionFromANewerHelper) {
  queue("53414654 0001 0009 00000000");
  queue("46494c45 00000000 'argv' 00", 1);
  queue("46494c45 00000000 'fusedev' 00", 1);
  EXPECT_TRUE(server().greet());
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("4c415354 0001 0000"));
}

TEST_F(ServerEndTest, RefusesVersionsItDoesNotSpeak) {
  for (const char* const hello :
       {"53414654 0002 0003 00000000", "53414654 0000 0000 00000000", "53414654 0002 0001 00000000"}) {
    SocketPair fresh;
    send_raw(fresh.other.get(), bytes_of(hello));
    ServerEnd end(channel_of(std::move(fresh.one)));
    EXPECT_EQ(error_of(end.greet()), Errno(EOPNOTSUPP)) << hello;
    EXPECT_TRUE(end.broken());
  }
}

TEST_F(ServerEndTest, RefusesHostileGreetings) {
  struct Case {
    const char* first;
    std::size_t first_descriptors;
    const char* second;
    std::size_t second_descriptors;
    int error;
  };
  const Case cases[] = {
      {"46494c45 00000000 'argv' 00", 0, nullptr, 0, EBADMSG},                        // nothing attached
      {"46494c45 00000000 'argv' 00", 2, nullptr, 0, EBADMSG},                        // too much attached
      {"46494c45 00000005 'argv' 00", 1, nullptr, 0, EBADMSG},                        // an error with a file
      {"46494c45 00000005 'argv' 00", 0, nullptr, 0, EIO},                            // an honest error
      {"46494c45 00000000 'fusedev' 00", 1, nullptr, 0, EBADMSG},                     // the wrong order
      {"46494c45 00000000 'argv' 00", 1, "46494c45 00000000 'argv' 00", 1, EBADMSG},  // twice
      {"46494c45 00000000 'argv' 00", 1, "46494c45 00000000 'fusedev'", 1, EBADMSG},  // no NUL
      {"46494c45 00000000 'argv' 00", 1, "5245504c 00000000", 0, EBADMSG},            // another packet
  };
  for (const auto& row : cases) {
    SocketPair fresh;
    send_raw(fresh.other.get(), bytes_of("53414654 0001 0001 00000002"));
    send_raw(fresh.other.get(), bytes_of(row.first), std::vector<int>(row.first_descriptors, null.get()));
    if (row.second)
      send_raw(fresh.other.get(), bytes_of(row.second), std::vector<int>(row.second_descriptors, null.get()));
    ServerEnd end(channel_of(std::move(fresh.one)));
    EXPECT_EQ(error_of(end.greet()), Errno(row.error)) << row.first;
    EXPECT_TRUE(end.broken());
  }
  // A file on the very first packet.
  SocketPair fresh;
  send_raw(fresh.other.get(), bytes_of("53414654 0001 0001 00000002"), std::array{null.get()});
  EXPECT_EQ(error_of(ServerEnd(channel_of(std::move(fresh.one))).greet()), Errno(EBADMSG));
}

TEST_F(ServerEndTest, OpensAndIsRefused) {
  queue("46494c45 00000000 '/dev/sdb1' 00", 1);
  queue("46494c45 00000010 '/dev/sdb1' 00");
  ServerEnd end = server();
  EXPECT_TRUE(end.open(OpenBlockDevice{.path = "/dev/sdb1", .open_flags = 2, .block_size = 512}));
  EXPECT_EQ(receive_raw(pair.other.get()),
            bytes_of("42444556 00000002 00000000 00000000 00000200 '/dev/sdb1' 00"));
  EXPECT_EQ(error_of(end.open(OpenFile{.path = "/dev/sdb1"})), Errno(EBUSY));
  EXPECT_FALSE(end.broken());
}

TEST_F(ServerEndTest, HostileAnswersEndTheConversation) {
  struct Case {
    const char* answer;
    std::size_t descriptors;
  };
  const Case cases[] = {
      {"46494c45 00000000 '/x' 00", 0}, {"46494c45 00000000 '/x' 00", 2}, {"46494c45 00000002 '/x' 00", 1},
      {"46494c45 00000000 '/y' 00", 1}, {"46494c45 00000000 '/x'", 1},    {"5245504c 00000000", 0},
      {"46494c45 00001000 '/x' 00", 0},
  };
  for (const auto& row : cases) {
    SocketPair fresh;
    send_raw(fresh.other.get(), bytes_of(row.answer), std::vector<int>(row.descriptors, null.get()));
    ServerEnd end(channel_of(std::move(fresh.one)));
    EXPECT_EQ(error_of(end.open(OpenFile{.path = "/x"})), Errno(EBADMSG)) << row.answer;
    EXPECT_TRUE(end.broken()) << row.answer;
    EXPECT_EQ(error_of(end.command(Mount{})), Errno(ECONNRESET)) << row.answer;
  }
}

TEST_F(ServerEndTest, CommandsAreAnswered) {
  queue("5245504c 00000000");
  queue("5245504c 00000001");
  queue("5245504c 00000000", 1);
  ServerEnd end = server();
  EXPECT_TRUE(end.command(SetSource{"/dev/sdb1"}));
  EXPECT_EQ(error_of(end.command(SetMountOptions{"ro"})), Errno(EPERM));
  EXPECT_FALSE(end.broken());
  EXPECT_EQ(error_of(end.command(Mount{})), Errno(EBADMSG));  // a file where none belongs
  EXPECT_TRUE(end.broken());
}

TEST_F(ServerEndTest, WhatNoHelperAcceptsIsNotSent) {
  ServerEnd end = server();
  EXPECT_EQ(error_of(end.command(SetSource{""})), Errno(EINVAL));
  EXPECT_EQ(error_of(end.command(SetSource{std::string("a\0b", 3)})), Errno(EINVAL));
  EXPECT_EQ(error_of(end.command(SetSource{std::string(65536, 'a')})), Errno(EMSGSIZE));
  EXPECT_EQ(error_of(end.open(OpenFile{.path = std::string(4096, 'a')})), Errno(EMSGSIZE));
  EXPECT_EQ(error_of(end.command(OpenFile{.path = "/x"})), Errno(EINVAL));
  EXPECT_EQ(error_of(end.command(Goodbye{})), Errno(EINVAL));
  EXPECT_FALSE(end.broken());
  EXPECT_TRUE(end.say_goodbye(3));
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("42594545 00000003"));  // and nothing before it
  EXPECT_EQ(end.fd(), -1);
  EXPECT_TRUE(receive_raw(pair.other.get()).empty());
}

TEST_F(HelperEndTest, Greets) {
  queue("4c415354 0001 0000");
  HelperEnd end = helper();
  ASSERT_TRUE(end.greet(Hello{.may_allow_other = true, .may_use_fuseblk = true}, null.get(), null.get(),
                        milliseconds(1000)));
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("53414654 0001 0001 00000003"));
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("46494c45 00000000 'argv' 00"));
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("46494c45 00000000 'fusedev' 00"));
}

TEST_F(HelperEndTest, RefusesBadGreetings) {
  struct Case {
    const char* answer;
    std::size_t descriptors;
    int error;
  };
  const Case cases[] = {
      {"4c415354 0002 0000", 0, EOPNOTSUPP}, {"4c415354 0000 0000", 0, EOPNOTSUPP},
      {"4c415354 0001 0001", 0, EBADMSG},    {"4c415354 0001", 0, EBADMSG},
      {"4c415354 0001 0000", 1, EBADMSG},    {"42594545 00000000", 0, EBADMSG},
  };
  for (const auto& row : cases) {
    SocketPair fresh;
    send_raw(fresh.other.get(), bytes_of(row.answer), std::vector<int>(row.descriptors, null.get()));
    HelperEnd end(channel_of(std::move(fresh.one)));
    EXPECT_EQ(error_of(end.greet(Hello{}, null.get(), null.get(), milliseconds(1000))), Errno(row.error))
        << row.answer;
  }
  HelperEnd silent(channel_of(std::move(pair.one)));
  EXPECT_EQ(error_of(silent.greet(Hello{}, null.get(), null.get(), milliseconds(20))), Errno(ETIMEDOUT));
}

TEST_F(HelperEndTest, AnswersUnknownFlagsItselfAndGoesOn) {
  queue("4f50454e 00000000 00000000 00000004 00000000 '/x' 00");
  queue("54595045 00000001");
  HelperEnd end = helper();
  EXPECT_EQ(*end.next_command(), Command(OpenFsContext{.fuseblk = true}));
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("46494c45 00000016 '/x' 00"));
}

TEST_F(HelperEndTest, DoesNotAnswerUnknownFlagsForEver) {
  // A thread, since neither direction may fill up.
  std::jthread flood([socket = pair.other.get()] {
    for (int i = 0; i < 33; ++i) send_raw(socket, bytes_of("54595045 00000002"));
  });
  HelperEnd end = helper();
  EXPECT_EQ(error_of(end.next_command()), Errno(EBADMSG));
}

TEST_F(HelperEndTest, RefusesUnknownCommandsAndDescriptors) {
  queue("554e4b4e 503f 0000");
  queue("444f4954 00000000", 1);
  HelperEnd end = helper();
  EXPECT_EQ(error_of(end.next_command()), Errno(EBADMSG));
  EXPECT_EQ(error_of(end.next_command()), Errno(EBADMSG));
  pair.other.reset();
  EXPECT_EQ(error_of(end.next_command()), Errno(ECONNRESET));
}

TEST_F(HelperEndTest, AFileGoesWithSuccessOnly) {
  HelperEnd end = helper();
  EXPECT_EQ(error_of(end.reply(FileReply{.error = 0, .name = "x"}, std::nullopt)), Errno(EINVAL));
  EXPECT_EQ(error_of(end.reply(FileReply{.error = 5, .name = "x"}, null.get())), Errno(EINVAL));
  EXPECT_TRUE(end.reply(FileReply{.error = 5, .name = "x"}, std::nullopt));
  EXPECT_EQ(receive_raw(pair.other.get()), bytes_of("46494c45 00000005 'x' 00"));
}

TEST_F(EndsTest, BothEndsTogether) {
  HelperEnd helper_end(channel_of(std::move(pair.other)));
  std::jthread helper_thread([&] {
    const auto arguments = write_arguments({"ext4", "/dev/null", "/mnt"});
    ASSERT_TRUE(
        helper_end.greet(Hello{.may_use_fuseblk = true}, arguments->get(), null.get(), milliseconds(5000)));
    for (;;) {
      const auto command = helper_end.next_command();
      ASSERT_TRUE(command);
      if (std::holds_alternative<Goodbye>(*command)) return;
      if (const auto* open = std::get_if<OpenFile>(&*command))
        ASSERT_TRUE(helper_end.reply(FileReply{.error = 0, .name = open->path}, null.get()));
      else
        ASSERT_TRUE(helper_end.reply(SimpleReply{}));
    }
  });
  ServerEnd end = server();
  const auto greeting = end.greet();
  ASSERT_TRUE(greeting);
  EXPECT_EQ(*read_arguments(greeting->arguments.get()), (Arguments{"ext4", "/dev/null", "/mnt"}));
  const auto opened = end.open(OpenFile{.path = "/dev/null", .open_flags = O_RDWR});
  ASSERT_TRUE(opened);
  struct stat status;
  ASSERT_EQ(::fstat(opened->get(), &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
  EXPECT_TRUE(end.command(Mount{}));
  EXPECT_TRUE(end.say_goodbye(0));
}

}  // namespace
}  // namespace fuse4fs::protocol::testing
