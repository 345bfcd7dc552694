// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/arguments.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "tests/unit/protocol/support.h"

namespace fuse4fs::protocol::testing {
namespace {

TEST(Arguments, AreByteExact) {
  const Arguments arguments{"ext4", "/d", ""};
  const Bytes bytes = bytes_of(
      "41524753 00000003"
      "00000020 00000005"
      "00000025 00000003"
      "00000028 00000001"
      "'ext4' 00 '/d' 00 00");
  EXPECT_EQ(*encode_arguments(arguments), bytes);
  EXPECT_EQ(*decode_arguments(bytes), arguments);
}

TEST(Arguments, TheGapThatLibfuseLeavesIsFine) {
  EXPECT_EQ(*decode_arguments(bytes_of("41524753 00000001 00000018 00000003 deadbeef deadbeef 'ab' 00")),
            Arguments{"ab"});
}

TEST(Arguments, MalformedBlobsAreRefused) {
  const char* const malformed[] = {
      "",
      "41524753",
      "41524753 00000000",                                             // no entry 0
      "41524754 00000001 00000010 00000002 'a' 00",                    // magic
      "41524753 00000002 00000010 00000002 'a' 00",                    // array longer than the file
      "41524753 ffffffff 00000010 00000002 'a' 00",                    // count
      "41524753 20000000 00000010 00000002 'a' 00",                    // count that wraps 32 bits
      "41524753 00000001 00000011 00000002 'a' 00",                    // past the end
      "41524753 00000001 ffffffff 00000002 'a' 00",                    // far past the end
      "41524753 00000001 00000010 ffffffff 'a' 00",                    // length
      "41524753 00000001 00000010 00000000 'a' 00",                    // no NUL
      "41524753 00000001 00000010 00000001 'a' 00",                    // NUL outside
      "41524753 00000001 00000010 00000003 'a' 00 00",                 // NUL inside
      "41524753 00000001 0000000c 00000005 'a' 00 000000",             // inside the array
      "41524753 00000002 00000018 00000002 00000018 00000002 'a' 00",  // the same bytes twice
  };
  for (const char* const text : malformed) {
    const auto decoded = decode_arguments(bytes_of(text));
    ASSERT_FALSE(decoded) << text;
    EXPECT_EQ(decoded.error(), Errno(EBADMSG)) << text;
  }
}

TEST(Arguments, LimitsAreExact) {
  EXPECT_TRUE(encode_arguments(Arguments(1024, "a")));
  EXPECT_EQ(encode_arguments(Arguments(1025, "a")).error(), Errno(E2BIG));
  const auto largest = encode_arguments({std::string((1 << 20) - 17, 'a')});
  ASSERT_TRUE(largest);
  EXPECT_EQ(largest->size(), 1U << 20);
  EXPECT_TRUE(decode_arguments(*largest));
  EXPECT_EQ(encode_arguments({std::string((1 << 20) - 16, 'a')}).error(), Errno(E2BIG));
  EXPECT_EQ(encode_arguments({}).error(), Errno(EINVAL));
  EXPECT_EQ(encode_arguments({std::string("a\0b", 3)}).error(), Errno(EINVAL));
}

TEST(Arguments, GoThroughASealedFile) {
  const LeakCheck leaks;
  const Arguments arguments{"ext4", "/dev/sdb1", "/mnt", "-o", "ro"};
  const auto memfd = write_arguments(arguments);
  ASSERT_TRUE(memfd);
  EXPECT_EQ(::lseek(memfd->get(), 0, SEEK_CUR), 0);
  EXPECT_EQ(::fcntl(memfd->get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::pwrite(memfd->get(), "x", 1, 0), -1);
  EXPECT_EQ(::ftruncate(memfd->get(), 0), -1);
  EXPECT_EQ(*read_arguments(memfd->get()), arguments);
}

TEST(Arguments, AnythingButASmallFileIsRefusedUnread) {
  const LeakCheck leaks;
  EXPECT_EQ(read_arguments(-1).error(), Errno(EBADF));
  EXPECT_EQ(read_arguments(UniqueFd(::open("/dev/zero", O_RDONLY | O_CLOEXEC)).get()).error(),
            Errno(EBADMSG));
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const UniqueFd read_end(pipe[0]);
  const UniqueFd write_end(pipe[1]);
  EXPECT_EQ(read_arguments(read_end.get()).error(), Errno(EBADMSG));
  const UniqueFd huge(::memfd_create("huge", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(huge.get(), off_t{1} << 40), 0);
  EXPECT_EQ(read_arguments(huge.get()).error(), Errno(EBADMSG));
}

}  // namespace
}  // namespace fuse4fs::protocol::testing
