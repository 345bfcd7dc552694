// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

namespace fuse4fs::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Outcome<Options> parse(const std::string& list) {
  return parse_options({"ext4", "/dev/sdb1", "/mnt", "-o", list});
}

TEST(Options, OnIomapTheLastWordCounts) {
  EXPECT_EQ(parse("ro")->iomap, IomapOption::kIfOffered);
  EXPECT_EQ(parse("iomap")->iomap, IomapOption::kRequired);
  EXPECT_EQ(parse("noiomap")->iomap, IomapOption::kRefused);
  EXPECT_EQ(parse("noiomap,iomap")->iomap, IomapOption::kRequired);
  EXPECT_EQ(parse("iomap,noiomap")->iomap, IomapOption::kRefused);
  EXPECT_FALSE(parse("iomap=1"));
}

TEST(Options, NamesAloneAreEnough) {
  const auto options = parse_options({"ext4", "/dev/sdb1", "/mnt"});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->subtype, "ext4");
  EXPECT_EQ(options->source, "/dev/sdb1");
  EXPECT_EQ(options->mount_point, "/mnt");
  EXPECT_FALSE(options->read_only);
  EXPECT_FALSE(options->ignore_journal);
  EXPECT_FALSE(options->no_acls);
  EXPECT_FALSE(options->debug);
  EXPECT_FALSE(options->errors);
  EXPECT_FALSE(options->threads);
  EXPECT_TRUE(options->kernel_options.empty());
  EXPECT_EQ(options->mount_flags, 0U);
}

TEST(Options, ComeInAnyPlaceAndNumber) {
  const auto options = parse_options(
      {"ext4", "-o", "ro,noload", "/dev/sdb1", "-othreads=3,debug", "/mnt", "-o", "errors=panic"});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->source, "/dev/sdb1");
  EXPECT_EQ(options->mount_point, "/mnt");
  EXPECT_TRUE(options->read_only);
  EXPECT_TRUE(options->ignore_journal);
  EXPECT_TRUE(options->debug);
  EXPECT_EQ(options->threads, 3U);
  EXPECT_EQ(options->errors, ErrorsOption::kPanic);
  EXPECT_EQ(options->mount_flags, static_cast<unsigned long>(MS_RDONLY));
}

TEST(Options, EachServerOptionHasItsMeaning) {
  EXPECT_TRUE(parse("norecovery")->ignore_journal);
  EXPECT_TRUE(parse("noacl")->no_acls);
  EXPECT_FALSE(parse("noacl")->discard);
  EXPECT_TRUE(parse("nodiscard,discard")->discard);
  EXPECT_FALSE(parse("discard,nodiscard")->discard);
  EXPECT_EQ(parse("errors=continue")->errors, ErrorsOption::kContinue);
  EXPECT_EQ(parse("errors=remount-ro")->errors, ErrorsOption::kRemountReadOnly);
  EXPECT_EQ(parse("threads=64")->threads, 64U);
  EXPECT_EQ(parse("threads=1")->threads, 1U);
  EXPECT_EQ(parse("commit=60")->commit, 60U);
  EXPECT_EQ(parse("commit=60,commit=0")->commit, std::nullopt);
  EXPECT_EQ(parse("noacl")->init_itable, 10U);
  EXPECT_EQ(parse("init_itable=0")->init_itable, 0U);
  EXPECT_EQ(parse("noinit_itable")->init_itable, std::nullopt);
  EXPECT_EQ(parse("noinit_itable,init_itable")->init_itable, 10U);
}

TEST(Options, MountWordsBecomeFlags) {
  const auto options = parse("nosuid,nodev,noexec,noatime,nodiratime,sync,dirsync,lazytime,nosymfollow");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->mount_flags, 2UL | 4 | 8 | 1024 | 2048 | 16 | 128 | (1 << 25) | 256);
  EXPECT_TRUE(options->kernel_options.empty());
  EXPECT_EQ(parse("relatime")->mount_flags, 1UL << 21);
  EXPECT_EQ(parse("strictatime")->mount_flags, 1UL << 24);
}

TEST(Options, TheLastWordCounts) {
  EXPECT_FALSE(parse("ro,rw")->read_only);
  EXPECT_TRUE(parse("rw,ro")->read_only);
  EXPECT_EQ(parse("noatime,strictatime,relatime")->mount_flags, 1UL << 21);
  EXPECT_EQ(
      parse("nosuid,nodev,noexec,noatime,sync,lazytime,suid,dev,exec,atime,async,nolazytime")->mount_flags,
      0U);
  EXPECT_EQ(parse("threads=2,threads=5")->threads, 5U);
  EXPECT_EQ(parse("cache_size=4m,cache_size=512M")->cache_size, std::size_t{512} << 20);
  EXPECT_THAT(parse("max_read=4096,max_read=8192")->kernel_options, ElementsAre("max_read=8192"));
}

TEST(Options, WhatIsSoInAnyCaseMayBeSaid) {
  const auto options = parse("default_permissions,allow_other,defaults,_netdev,,");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->mount_flags, 0U);
  EXPECT_TRUE(options->kernel_options.empty());
}

TEST(Options, UnknownOnesAreNamed) {
  for (const char* const word :
       {"bogus", "RO", "ro=1", "errors", "threads", "blksize=512", "fd=3", "user_id=0", "=", "ro "}) {
    const auto options = parse(std::string("nodev,") + word + ",ro");
    ASSERT_FALSE(options) << word;
    EXPECT_EQ(options.error().error, Errno(EINVAL));
    EXPECT_THAT(options.error().message, HasSubstr(word));
  }
}

TEST(Options, BadValuesAreNamed) {
  for (const char* const word :
       {"cache_size=3m", "cache_size=513m", "cache_size=4x", "threads=0", "threads=65", "threads=-1",
        "threads=", "threads=4x", "threads= 4", "threads=99999999999", "errors=", "errors=remount",
        "max_read=", "max_read=x", "commit=86401", "commit=-1", "init_itable=", "init_itable=1000001"}) {
    const auto options = parse(word);
    ASSERT_FALSE(options) << word;
    EXPECT_EQ(options.error().error, Errno(EINVAL));
    const std::string name(word, std::string(word).find('='));
    EXPECT_THAT(options.error().message, HasSubstr(name));
  }
}

TEST(Options, AHostileNameCannotForgeALine) {
  EXPECT_THAT(parse("x\ny").error().message, HasSubstr(R"("x\x0ay")"));
}

TEST(Options, ArgumentsMustBeThree) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"ext4"},
                                             {"ext4", "/dev/sdb1"},
                                             {"ext4", "/dev/sdb1", "/mnt", "more"},
                                             {"ext4", "", "/mnt"},
                                             {"ext4", "/dev/sdb1", "/mnt", "-o"},
                                             {"ext4", "/dev/sdb1", "/mnt", "-x"},
                                             {"ext4", "/dev/sdb1", "/mnt", "--"}}) {
    const auto options = parse_options(arguments);
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().error, Errno(EINVAL));
  }
}

}  // namespace
}  // namespace fuse4fs::service
