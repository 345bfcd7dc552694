// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

namespace fuse4fs::helper {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

TEST(CommandLine, AsMountWritesIt) {
  const auto line =
      parse_command_line({"/dev/sdb1", "/mnt", "-sn", "-v", "-o", "rw,nosuid", "-t", "fuse4fs"});
  ASSERT_TRUE(line);
  EXPECT_EQ(line->action, Action::kMount);
  EXPECT_EQ(line->source, "/dev/sdb1");
  EXPECT_EQ(line->mount_point, "/mnt");
  EXPECT_EQ(line->options.flags, unsigned{MS_NOSUID});
  EXPECT_TRUE(line->verbose);
  EXPECT_FALSE(line->fake);
}

TEST(CommandLine, OptionsMayStandAnywhereAndAgain) {
  for (const Words& words : {Words{"-o", "ro", "a", "-o", "nosuid", "b"}, Words{"a", "b", "-oro,nosuid"},
                             Words{"-rf", "a", "-o", "nosuid", "b"}}) {
    const auto line = parse_command_line(words);
    ASSERT_TRUE(line);
    EXPECT_EQ(line->source, "a");
    EXPECT_EQ(line->mount_point, "b");
    EXPECT_EQ(line->options.flags, unsigned{MS_RDONLY | MS_NOSUID});
  }
}

TEST(CommandLine, WrongCallsAreRefusedWithWords) {
  for (const Words& words :
       {Words{}, Words{"a"}, Words{"a", "b", "c"}, Words{"a", "b", "--frob"}, Words{"a", "b", "-o"},
        Words{"a", "b", "-r", "-w"}, Words{"--abort", "a", "b"}, Words{"a", "b", "-o", "frob"}}) {
    const auto line = parse_command_line(words);
    ASSERT_FALSE(line);
    EXPECT_EQ(line.error().error, Errno(EINVAL));
    EXPECT_FALSE(line.error().message.empty());
  }
}

TEST(CommandLine, TheTypeIsASubtypeAndNoPath) {
  for (const char* const type : {"ext4", "fuse.ext4", "fuseblk.ext4"})
    EXPECT_EQ(parse_command_line({"a", "b", "-t", type})->type, "ext4");
  for (const char* const type : {"", "fuse.", "../x", "a/b", ".hidden", "a b", "fuse...", "x\n"})
    EXPECT_FALSE(parse_command_line({"a", "b", "-t", type})) << type;
  EXPECT_FALSE(parse_command_line({"a", "b", "-t", std::string(65, 'a')}));
}

TEST(CommandLine, ReadOnlyAndWritable) {
  EXPECT_EQ(parse_command_line({"a", "b", "-r", "-o", "rw"})->options.flags, unsigned{MS_RDONLY});
  const auto line = parse_command_line({"a", "b", "-w", "-o", "ro"});
  EXPECT_EQ(line->options.flags, 0U);
  EXPECT_TRUE(line->demand_writable);
}

TEST(CommandLine, OtherActions) {
  EXPECT_EQ(parse_command_line({"a", "b", "-o", "remount,ro"})->action, Action::kRemount);
  const auto abort = parse_command_line({"--abort", "/mnt"});
  ASSERT_TRUE(abort);
  EXPECT_EQ(abort->action, Action::kAbort);
  EXPECT_EQ(abort->mount_point, "/mnt");
  EXPECT_THAT(parse_command_line({"--help"})->text, HasSubstr("--abort"));
  EXPECT_THAT(parse_command_line({"--version"})->text, HasSubstr("mount.fuse4fs "));
}

}  // namespace
}  // namespace fuse4fs::helper
