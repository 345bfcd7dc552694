// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <chrono>

#include <set>

#include "helper/option_table.h"

namespace fuse4fs::helper {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Outcome<MountOptions> parse(const std::string& list, OptionRules rules = {}) {
  return parse_mount_options({list}, rules);
}

// An option as a user would write it so that this row is the one that fits.
std::string example_of(const OptionRow& row) {
  std::string text(row.name);
  if (text.ends_with('*')) text.replace(text.size() - 1, 1, "systemd.automount");
  if (row.value == OptionValue::kNone) return text;
  if (row.use == OptionUse::kLog) return text + "=/var/log/x";
  if (row.name == "threads") return text + "=4";
  if (row.name == "cache_size") return text + "=4m";
  if (row.use == OptionUse::kService) return text + "=/run/x";
  if (row.use == OptionUse::kRefused) return text + "=refuse-me";
  if (row.values.empty()) return text + "=1";
  return text + "=" + std::string(row.values.substr(0, row.values.find('|')));
}

TEST(OptionTable, EachRowIsReachedAndDoesWhatItSays) {
  for (const OptionRow& row : option_table()) {
    const std::string example = example_of(row);
    SCOPED_TRACE(example);
    EXPECT_FALSE(row.reason.empty());
    const auto equals = example.find('=');
    const bool has_value = equals != std::string::npos;
    EXPECT_EQ(find_option(example.substr(0, equals), has_value, has_value ? example.substr(equals + 1) : ""),
              &row);
    const auto options = parse(example);
    switch (row.use) {
      case OptionUse::kRefused:
      case OptionUse::kKernel:
        ASSERT_FALSE(options);
        EXPECT_EQ(options.error().error, Errno(EINVAL));
        EXPECT_THAT(options.error().message, HasSubstr(std::string(row.name)));
        EXPECT_THAT(options.error().message, HasSubstr(std::string(row.reason)));
        break;
      case OptionUse::kFlag:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->flags, row.set);
        EXPECT_EQ(options->mentioned, row.set | row.clear);
        EXPECT_THAT(options->remarks, IsEmpty());
        break;
      case OptionUse::kServer:
        ASSERT_TRUE(options);
        EXPECT_THAT(options->for_server, ElementsAre(example));
        EXPECT_EQ(server_options(*options), example);
        break;
      case OptionUse::kSilent:
        ASSERT_TRUE(options);
        EXPECT_THAT(options->for_server, IsEmpty());
        EXPECT_THAT(options->remarks, IsEmpty());
        EXPECT_EQ(options->flags, 0U);
        break;
      case OptionUse::kIgnored:
        ASSERT_TRUE(options);
        EXPECT_THAT(options->for_server, IsEmpty());
        EXPECT_THAT(options->remarks, ElementsAre(HasSubstr(std::string(row.reason))));
        break;
      case OptionUse::kRemount:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->purpose, Purpose::kRemount);
        break;
      case OptionUse::kLog:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->log_file, "/var/log/x");
        break;
      case OptionUse::kBdi:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->bdi, BdiTuning::kKeep);
        break;
      case OptionUse::kIomap:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->iomap, row.name == "iomap" ? IomapWish::kRequired : IomapWish::kRefused);
        EXPECT_EQ(server_options(*options), example);
        EXPECT_THAT(options->for_new_mounts, ElementsAre(example));
        break;
      case OptionUse::kTrustedService:
        ASSERT_TRUE(options);
        EXPECT_TRUE(options->trusted_service);
        break;
      case OptionUse::kService:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->service, "/run/x");
        break;
      case OptionUse::kStandalone:
        ASSERT_TRUE(options);
        EXPECT_TRUE(options->standalone);
        break;
      case OptionUse::kStartTimeout:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->start_timeout, std::chrono::seconds(1));
        break;
      case OptionUse::kJournalPath:
        ASSERT_TRUE(options);
        EXPECT_EQ(options->journal_path, "1");
        EXPECT_THAT(options->for_server, IsEmpty()) << "the helper names it as it was opened";
        break;
      case OptionUse::kNoFail:
        ASSERT_TRUE(options);
        EXPECT_TRUE(options->no_fail);
        break;
      case OptionUse::kUser:
        ASSERT_TRUE(options);
        EXPECT_THAT(options->for_server, IsEmpty());
        break;
    }
  }
}

TEST(OptionTable, AClearingRowTakesBackItsFlag) {
  const std::pair<const char*, const char*> pairs[] = {
      {"ro", "rw"},
      {"nosuid", "suid"},
      {"nodev", "dev"},
      {"noexec", "exec"},
      {"noatime", "atime"},
      {"nodiratime", "diratime"},
      {"nosymfollow", "symfollow"},
      {"relatime", "norelatime"},
      {"strictatime", "nostrictatime"},
      {"lazytime", "nolazytime"},
  };
  for (const auto& [set, clear] : pairs) {
    SCOPED_TRACE(set);
    EXPECT_NE(parse(set)->flags, 0U);
    EXPECT_EQ(parse(std::string(set) + "," + clear)->flags, 0U);
    EXPECT_EQ(parse(std::string(clear) + "," + set)->flags, parse(set)->flags);
  }
}

TEST(MountOptions, TheLastWordOnAccessTimesCounts) {
  EXPECT_EQ(parse("noatime,relatime")->flags, unsigned{MS_RELATIME});
  EXPECT_EQ(parse("relatime,noatime")->flags, unsigned{MS_NOATIME});
  EXPECT_EQ(parse("noatime,strictatime,nodiratime")->flags, unsigned{MS_STRICTATIME | MS_NODIRATIME});
}

TEST(MountOptions, TheLastWordOnIomapCounts) {
  EXPECT_EQ(parse("ro")->iomap, IomapWish::kIfOffered);
  const auto refused = parse("iomap,errors=panic,noiomap");
  EXPECT_EQ(refused->iomap, IomapWish::kRefused);
  EXPECT_EQ(server_options(*refused), "errors=panic,noiomap");
  EXPECT_THAT(refused->for_new_mounts, ElementsAre("errors=panic", "noiomap"));
  const auto required = parse("noiomap,iomap");
  EXPECT_EQ(required->iomap, IomapWish::kRequired);
  EXPECT_EQ(server_options(*required), "iomap");
  EXPECT_FALSE(parse("iomap=1"));
}

TEST(MountOptions, AnotherServiceFindsOutAboutIomapByItself) {
  const OptionRules foreign{.vocabulary = Vocabulary::kForeignService};
  const auto options = parse("noiomap,lazytime", foreign);
  ASSERT_TRUE(options);
  EXPECT_EQ(options->iomap, IomapWish::kRefused);
  EXPECT_EQ(options->flags, kLazyTime);
  EXPECT_EQ(server_options(*options), "lazytime");
  EXPECT_THAT(options->for_new_mounts, ElementsAre("noiomap"));
  // A word of its own.
  const auto its_own = parse("iomap=0", foreign);
  ASSERT_TRUE(its_own);
  EXPECT_EQ(its_own->iomap, IomapWish::kIfOffered);
  EXPECT_EQ(server_options(*its_own), "iomap=0");
}

TEST(MountOptions, TheServerHearsOfAccessTimes) {
  EXPECT_EQ(server_options(*parse("lazytime,noatime")), "noatime,lazytime");
  EXPECT_EQ(server_options(*parse("strictatime,nodiratime")), "nodiratime,strictatime");
  EXPECT_EQ(server_options(*parse("noatime")), "noatime");
}

TEST(MountOptions, WhatIsNotKeptYetIsRefusedWithItsReason) {
  const std::pair<const char*, const char*> refused[] = {
      {"dirsync", "directory changes are not written at once"},
      {"nouser_xattr", "extended attributes are always served"},
      {"sync", "only the data of files would be written at once"},
  };
  for (const auto& [option, reason] : refused) {
    SCOPED_TRACE(option);
    const auto options = parse(option);
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().error, Errno(EINVAL));
    EXPECT_THAT(options.error().message, AllOf(HasSubstr(option), HasSubstr(reason)));
  }
  for (const char* const accepted : {"defaults", "relatime", "atime", "diratime", "nostrictatime", "async",
                                     "noacl", "acl", "user_xattr"}) {
    SCOPED_TRACE(accepted);
    const auto options = parse(accepted);
    ASSERT_TRUE(options);
    EXPECT_THAT(options->remarks, IsEmpty());
  }
}

TEST(MountOptions, WhatTunesSpeedIsARemark) {
  const auto options = parse("discard,delalloc,stripe=2");
  ASSERT_TRUE(options);
  EXPECT_THAT(options->for_server, ElementsAre("discard"));
  EXPECT_THAT(options->remarks, ElementsAre(HasSubstr("delalloc"), HasSubstr("stripe")));
}

TEST(MountOptions, WhatTakesANewMountIsRemembered) {
  const auto options = parse("remount,errors=continue,noload,threads=3,log=/x,bdi=keep,errors=panic,nosuid");
  ASSERT_TRUE(options);
  EXPECT_THAT(options->for_new_mounts,
              ElementsAre("noload", "threads=3", "log=/x", "bdi=keep", "errors=panic"));
  EXPECT_THAT(parse("remount,ro,nofail,x-test")->for_new_mounts, IsEmpty());
}

TEST(MountOptions, TheLastWordOnTheServersOriginCounts) {
  auto options = parse("standalone,service=/run/x");
  ASSERT_TRUE(options);
  EXPECT_FALSE(options->standalone);
  EXPECT_EQ(options->service, "/run/x");
  options = parse("service=/run/x,standalone");
  ASSERT_TRUE(options);
  EXPECT_TRUE(options->standalone);
  EXPECT_EQ(options->service, "");
  EXPECT_FALSE(parse("standalone", {.vocabulary = Vocabulary::kForeignService}));
}

TEST(MountOptions, WordsOfFstabAreNotPassedOn) {
  const auto options = parse(
      "noauto,nofail,_netdev,user=ann,users,owner,group,x-systemd.automount,x-systemd.idle-timeout=1min");
  ASSERT_TRUE(options);
  EXPECT_EQ(server_options(*options), "");
  EXPECT_EQ(options->flags, 0U);
  EXPECT_EQ(options->user, "ann");
  EXPECT_TRUE(options->no_fail);
}

TEST(MountOptions, SeveralListsAreOne) {
  const auto options = parse_mount_options({"ro,nosuid", "rw", "noexec"}, {});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->flags, unsigned{MS_NOSUID | MS_NOEXEC});
}

TEST(MountOptions, QuotesMayHoldCommasAndEmptyPlacesAreNothing) {
  const auto options = parse(",x-note=\"a,commit=5\",,ro,");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->flags, unsigned{MS_RDONLY});
}

TEST(MountOptions, UnknownOptionsAreRefusedByName) {
  const auto options = parse("ro,frobnicate=7");
  ASSERT_FALSE(options);
  EXPECT_THAT(options.error().message, HasSubstr("\"frobnicate=7\""));
  // Not longer names of known ones either.
  EXPECT_FALSE(parse("errorsx=panic"));
  EXPECT_FALSE(parse("x"));
  EXPECT_FALSE(parse("x-"));
}

TEST(MountOptions, SloppyLeavesOutTheUnknownOnly) {
  const OptionRules sloppy{.unknown = UnknownOptions::kLeftOut};
  const auto options = parse("ro,frobnicate", sloppy);
  ASSERT_TRUE(options);
  EXPECT_THAT(options->remarks, ElementsAre(HasSubstr("frobnicate")));
  EXPECT_FALSE(parse("data=journal", sloppy)) << "a promise that is not kept is no unknown option";
}

TEST(MountOptions, ValuesAreChecked) {
  for (const char* const wrong : {"errors",
                                  "errors=",
                                  "errors=explode",
                                  "threads=0",
                                  "threads=65",
                                  "threads=4x",
                                  "threads=-1",
                                  "threads",
                                  "commit=5s",
                                  "commit=86401",
                                  "commit",
                                  "ro=1",
                                  "bdi=fast",
                                  "log=relative",
                                  "log",
                                  "resuid=5",
                                  "barrier=0",
                                  "data=ordered",
                                  "dax=always",
                                  "dax",
                                  "loop=/dev/loop3",
                                  "service=run/x",
                                  "start-timeout=0",
                                  "start-timeout=86401",
                                  "start-timeout=1s",
                                  "journal_path",
                                  "cache_size=3m",
                                  "cache_size=513m",
                                  "cache_size=64mb",
                                  "cache_size=-1",
                                  "cache_size",
                                  "init_itable=x",
                                  "init_itable=1000001"}) {
    EXPECT_FALSE(parse(wrong)) << wrong;
  }
  for (const char* const right : {"errors=continue", "errors=remount-ro", "errors=panic", "threads=1",
                                  "threads=64", "barrier", "barrier=1", "data=writeback", "dax=never", "loop",
                                  "bdi=tune", "cache_size=4m", "cache_size=512M", "cache_size=65536k"}) {
    EXPECT_TRUE(parse(right)) << right;
  }
}

TEST(MountOptions, TheServerHearsFlagsAndItsOwnOptionsOnce) {
  const auto options = parse("relatime,threads=2,nosuid,nodev,errors=panic,ro,threads=8,x-a,_netdev");
  ASSERT_TRUE(options);
  EXPECT_EQ(server_options(*options), "ro,nosuid,nodev,errors=panic,threads=8");
  EXPECT_EQ(server_options(*parse("defaults,rw,relatime")), "");
}

TEST(MountOptions, ARemountToleratesWhatMountRepeats) {
  const std::string repeated =
      "rw,relatime,user_id=0,group_id=0,default_permissions,allow_other,blksize=4096,seclabel";
  EXPECT_FALSE(parse(repeated));
  const auto options = parse("remount," + repeated + ",ro");
  ASSERT_TRUE(options);
  EXPECT_EQ(options->purpose, Purpose::kRemount);
  EXPECT_EQ(options->flags, unsigned{MS_RDONLY | MS_RELATIME});
  EXPECT_TRUE(parse(repeated + ",remount")) << "wherever it stands";
}

TEST(MountOptions, AForeignServiceGetsWhatIsNotTheVfss) {
  const OptionRules foreign{.vocabulary = Vocabulary::kForeignService};
  const auto options = parse("ro,frobnicate=7,commit=5,errors=panic,nofail", foreign);
  ASSERT_TRUE(options);
  EXPECT_EQ(server_options(*options), "ro,frobnicate=7,commit=5,errors=panic");
  EXPECT_THAT(options->for_new_mounts, ElementsAre("frobnicate=7", "commit=5", "errors=panic"));
  // It may keep the flags that ours does not, and gets the rest unjudged.
  const auto flags = parse("sync,dirsync,strictatime,discard,noacl", foreign);
  ASSERT_TRUE(flags);
  EXPECT_EQ(flags->flags, unsigned{MS_SYNCHRONOUS | MS_DIRSYNC | MS_STRICTATIME});
  EXPECT_THAT(flags->for_server, ElementsAre("discard", "noacl"));
}

}  // namespace
}  // namespace fuse4fs::helper
