// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/messages.h"

#include <gtest/gtest.h>

#include "tests/unit/protocol/support.h"
#include "tests/unit/protocol/vectors.h"

namespace fuse4fs::protocol::testing {
namespace {

Errno command_error(ByteView packet) {
  const auto decoded = decode_command(packet);
  return decoded ? Errno(ENOMSG) : decoded.error();
}

TEST(Messages, CommandsAreByteExact) {
  for (const auto& [text, value] : command_vectors()) {
    const Bytes bytes = bytes_of(text);
    EXPECT_EQ(encode(value), bytes) << text;
    const auto decoded = decode_command(bytes);
    ASSERT_TRUE(decoded) << text;
    EXPECT_EQ(*decoded, value) << text;
  }
}

TEST(Messages, HelloIsByteExact) {
  const Bytes bytes = bytes_of("53414654 0001 0002 00000003");
  const Hello hello{
      .oldest_version = 1, .newest_version = 2, .may_allow_other = true, .may_use_fuseblk = true};
  EXPECT_EQ(encode(hello), bytes);
  EXPECT_EQ(*decode_hello(bytes), hello);
  EXPECT_EQ(encode(Hello{.oldest_version = 1, .newest_version = 1, .may_allow_other = true}),
            bytes_of("53414654 0001 0001 00000001"));
  EXPECT_EQ(decode_hello(bytes_of("53414654 0001 0001 00000002"))->may_use_fuseblk, true);
  EXPECT_EQ(decode_hello(bytes_of("53414654 0001 0001 00000002"))->may_allow_other, false);
}

TEST(Messages, RepliesAreByteExact) {
  EXPECT_EQ(encode(HelloReply{.version = 1}), bytes_of("4c415354 0001 0000"));
  EXPECT_EQ(decode_hello_reply(bytes_of("4c415354 0102 0000"))->version, 0x102);
  EXPECT_EQ(encode(SimpleReply{.error = 13}), bytes_of("5245504c 0000000d"));
  EXPECT_EQ(decode_simple_reply(bytes_of("5245504c 00000fff"))->error, 4095);
  const FileReply file{.error = 2, .name = "argv"};
  EXPECT_EQ(encode(file), bytes_of("46494c45 00000002 'argv' 00"));
  EXPECT_EQ(*decode_file_reply(bytes_of("46494c45 00000002 'argv' 00")), file);
}

TEST(Messages, EveryOtherLengthIsRefused) {
  for (const auto& [text, value] : command_vectors()) {
    Bytes bytes = bytes_of(text);
    const Bytes whole = bytes;
    // Cut anywhere: a string loses its NUL, a number a byte.
    while (!bytes.empty()) {
      bytes.pop_back();
      EXPECT_EQ(command_error(bytes), Errno(EBADMSG)) << text << " cut to " << bytes.size();
    }
    // A byte more is either left over or stands behind the NUL.
    for (const std::byte more : {std::byte{0}, std::byte{'x'}}) {
      bytes = whole;
      bytes.push_back(more);
      EXPECT_EQ(command_error(bytes), Errno(EBADMSG)) << text;
    }
  }
}

TEST(Messages, MalformedCommandsAreRefused) {
  const char* const malformed[] = {
      "",
      "00000000",
      "00000000 00000000",                                    // no such command
      "494f4d41 503f 0001",                                   // padding
      "494f4d41 0000 0000",                                   // no such mode
      "494f4d41 3f50 0000",                                   // little endian
      "494f4d41 503f",                                        // no padding
      "53414654 0001 0001 00000000",                          // HELLO is not a command
      "646f6974 00000000",                                    // doit
      "4e414d45 00",                                          // empty string
      "4e414d45 'a' 00 'b' 00",                               // NUL inside
      "4e414d45 'ab'",                                        // no NUL
      "4f50454e 00000000 00000000 00000000 00000000 00",      // empty path
      "4f50454e 00000000 00000000 00000000 00000200 'a' 00",  // a block size in OPEN
      "4f50454e 00000000 00000000 00000004 00000200 'a' 00",  // and an unknown flag besides
      "4d4e5450 4000 0001 '/mnt' 00",                         // padding
      "4d4e5450 4001 0000 '/mnt' 00",                         // no such type
      "4d4e5450 a000 0000 '/mnt' 00",                         // a symlink
  };
  for (const char* const text : malformed) EXPECT_EQ(command_error(bytes_of(text)), Errno(EBADMSG)) << text;
}

TEST(Messages, AnUnknownFlagAloneIsAnswered) {
  struct Case {
    const char* command;
    const char* answer;
  };
  const Case cases[] = {
      {"4f50454e 00000000 00000000 00000004 00000000 '/x' 00", "46494c45 00000016 '/x' 00"},
      {"42444556 00000000 00000000 80000003 00000200 '/y' 00", "46494c45 00000016 '/y' 00"},
      {"54595045 00000002", "5245504c 00000016"},
  };
  for (const auto& [command, answer] : cases) {
    EXPECT_EQ(command_error(bytes_of(command)), Errno(EINVAL)) << command;
    const auto refusal = refusal_of(bytes_of(command));
    ASSERT_TRUE(refusal) << command;
    EXPECT_EQ(*refusal, bytes_of(answer)) << command;
  }
  EXPECT_FALSE(refusal_of(bytes_of("54595045 00000001")));     // nothing to refuse
  EXPECT_FALSE(refusal_of(bytes_of("54595045 00000002 00")));  // more than a flag
}

TEST(Messages, MalformedRepliesAreRefused) {
  const char* const files[] = {
      "46494c45 00000000",            // no name
      "46494c45 00000000 00",         // empty name
      "46494c45 00001000 'argv' 00",  // no such errno
      "46494c45 ffffffff 'argv' 00",  // negative
      "46494c45 00000000 'a' 00 00",  // NUL inside
      "46494c46 00000000 'argv' 00",  // magic
  };
  for (const char* const text : files) EXPECT_FALSE(decode_file_reply(bytes_of(text))) << text;
  for (const char* const text :
       {"5245504c", "5245504c 000000", "5245504c 00000000 00", "5245504c 00001000", "46494c45 00000000"})
    EXPECT_FALSE(decode_simple_reply(bytes_of(text))) << text;
  for (const char* const text :
       {"4c415354 0001", "4c415354 0001 0001", "4c415354 0001 0000 00", "53414654 0001 0000"})
    EXPECT_FALSE(decode_hello_reply(bytes_of(text))) << text;
  for (const char* const text : {"53414654 0001 0001", "53414654 0001 0001 00000004",
                                 "53414654 0001 0001 00000000 00", "4c415354 0001 0001 00000000"})
    EXPECT_FALSE(decode_hello(bytes_of(text))) << text;
}

TEST(Messages, LimitsAreExact) {
  // 4096 with the NUL is what the kernel takes as a path.
  const auto open = [](std::size_t length) { return Command(OpenFile{.path = std::string(length, 'p')}); };
  EXPECT_TRUE(decode_command(encode(open(4095))));
  EXPECT_EQ(command_error(encode(open(4096))), Errno(EMSGSIZE));
  const auto mount_point = [](std::size_t length) {
    return Command(SetMountPoint{std::string(length, 'm')});
  };
  EXPECT_TRUE(decode_command(encode(mount_point(4095))));
  EXPECT_EQ(command_error(encode(mount_point(4096))), Errno(EMSGSIZE));
  const auto options = [](std::size_t length) { return Command(SetMountOptions{std::string(length, 'o')}); };
  EXPECT_TRUE(decode_command(encode(options(65536 - 5))));
  EXPECT_EQ(command_error(encode(options(65536 - 4))), Errno(EMSGSIZE));
  EXPECT_EQ(decode_file_reply(encode(FileReply{.error = 1, .name = std::string(4096, 'n')})).error(),
            Errno(EMSGSIZE));
}

}  // namespace
}  // namespace fuse4fs::protocol::testing
