// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_policy.h"

#include <gtest/gtest.h>
#include <sys/mount.h>

#include <vector>

#include "helper/mount_options.h"

namespace fuse4fs::helper {
namespace {

const Person kJoe{.user = 1000, .group = 100, .groups = {24, 46}};
constexpr DeviceOwner kRoots{.user = 0, .group = 6};
constexpr DeviceOwner kJoes{.user = 1000, .group = 6};
constexpr DeviceOwner kCdroms{.user = 0, .group = 46};
constexpr DeviceOwner kOwnGroups{.user = 0, .group = 100};

constexpr unsigned long kAlways = MS_NOSUID | MS_NODEV;
constexpr unsigned long kNoExec = kAlways | MS_NOEXEC;
constexpr long kNo = -1;

struct Case {
  const char* line;  // options
  std::optional<DeviceOwner> owner;
  const char* wished;
  long flags;  // of the mount; kNo: refused
};

TEST(UserMountPolicy, AnswersAsMount8Does) {
  const std::vector<Case> cases{
      // Without a word there is no right.
      {"defaults", kJoes, "", kNo},
      {"rw,noauto", kJoes, "", kNo},
      {"", kJoes, "", kNo},
      // Each word, and what it implies.
      {"user", kRoots, "", kNoExec},
      {"users,noauto", {}, "", kNoExec},
      {"owner", kJoes, "", kAlways},
      {"owner", kRoots, "", kNo},
      {"owner", kCdroms, "", kNo},
      {"owner", {}, "", kNo},  // an image has no owner that counts
      {"group", kCdroms, "", kAlways},
      {"group", kOwnGroups, "", kAlways},
      {"group", kRoots, "", kNo},
      {"group", kJoes, "", kNo},
      {"owner,group", kCdroms, "", kAlways},
      // user=NAME is what mount(8) notes down, no right; a later word takes an earlier one back.
      {"user=joe", kJoes, "", kNo},
      {"user,nouser", kJoes, "", kNo},
      {"users,nousers", kJoes, "", kNo},
      {"user,nousers", kJoes, "", kNoExec},
      {"nouser,user", kJoes, "", kNoExec},
      {"x-user", kJoes, "", kNo},
      {"comment=user", kJoes, "", kNo},
      {"x-why=\"a,user\"", kJoes, "", kNo},
      // exec may be given back by a later word of the line; suid and dev never.
      {"user,exec", {}, "", kAlways},
      {"exec,user", {}, "", kNoExec},
      {"user,suid,dev", {}, "", kNoExec},
      {"owner,suid,dev,exec", kJoes, "", kAlways},
      {"suid,dev,users,exec,suid,dev", {}, "", kAlways},
      // What mount(8) calls the helper with.
      {"user,noauto", {}, "rw,noexec,nosuid,nodev,user=joe", kNoExec},
      {"user,exec", {}, "rw,nosuid,nodev,exec,user", kAlways},
      {"user,ro", {}, "ro,noexec,nosuid,nodev,user", kNoExec | MS_RDONLY},
      {"user,noatime,errors=remount-ro",
       {},
       "rw,noexec,nosuid,nodev,noatime,errors=remount-ro",
       kNoExec | MS_NOATIME},
      // The user may take away, and nothing else.
      {"user", {}, "ro", kNoExec | MS_RDONLY},
      {"user,exec", {}, "noexec", kNoExec},
      {"user,ro", {}, "rw", kNoExec | MS_RDONLY},
      {"user", {}, "suid,dev,exec", kNoExec},
      {"user", {}, "errors=continue", kNo},
      {"user,errors=remount-ro", {}, "errors=continue", kNo},
      {"user", {}, "log=/etc/passwd", kNo},
      {"user", {}, "trusted-service", kNo},
      {"user", {}, "noacl", kNo},
      {"user", {}, "idmap", kNo},
      {"user", {}, "remount", kNo},
      {"user", {}, "x\"a,b\"", kNo},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(std::string(one.line) + " | " + one.wished);
    const FstabLine line{.source = "/dev/sdb1", .target = "/mnt", .type = "fuse4fs", .options = one.line};
    const auto options = options_by_fstab(line, kJoe, one.owner, one.wished);
    ASSERT_EQ(options.has_value(), one.flags != kNo) << options.value_or("");
    if (!options) {
      EXPECT_EQ(options.error().error, Errno(EPERM));
      EXPECT_FALSE(options.error().message.empty());
      continue;
    }
    // What the helper makes of them is what counts.
    const auto parsed = parse_mount_options({*options}, {});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->flags, static_cast<unsigned long>(one.flags)) << *options;
  }
}

TEST(UserMountPolicy, TheLinesOwnOptionsArrive) {
  const FstabLine line{.source = "/dev/sdb1",
                       .target = "/mnt",
                       .type = "fuseblk.fuse4fs",
                       .options = "user,errors=remount-ro,log=/var/log/stick"};
  EXPECT_EQ(options_by_fstab(line, kJoe, {}, "rw").value_or(""),
            "noexec,nosuid,nodev,errors=remount-ro,log=/var/log/stick,nosuid,nodev");
}

TEST(UserMountPolicy, OnlyLinesOfThisProjectsType) {
  FstabLine line{.source = "/dev/sdb1", .target = "/mnt", .type = "", .options = "user"};
  for (const char* const type : {"ext4", "auto", "fuse", "fuse.sshfs", "fuse4fs2", "fuse.fuse4fs.x", ""}) {
    line.type = type;
    EXPECT_FALSE(options_by_fstab(line, kJoe, {}, "")) << type;
  }
  for (const char* const type : {"fuse4fs", "fuse.fuse4fs", "fuseblk.fuse4fs"}) {
    line.type = type;
    EXPECT_TRUE(options_by_fstab(line, kJoe, {}, "")) << type;
  }
}

TEST(UserMountPolicy, TheLineOfExactlyThisSourceAndDirectory) {
  const std::vector<FstabLine> lines{
      {.source = "UUID=1", .target = "/mnt/a", .type = "fuse4fs", .options = "first"},
      {.source = "/dev/sdc1", .target = "/mnt/a/", .type = "fuse4fs", .options = "second"},
      {.source = "/dev/sdc1", .target = "/mnt/b", .type = "fuse4fs", .options = "third"},
      {.source = "LABEL=gone", .target = "/mnt/c", .type = "fuse4fs", .options = "fourth"},
  };
  const auto resolve = [](const std::string& source) {
    return source == "UUID=1" ? std::string("/dev/sdb1") : source == "LABEL=gone" ? std::string() : source;
  };
  const auto found = [&](const char* source, const char* target) {
    const FstabLine* const line =
        find_line(lines, {.source = source, .target = target, .options = {}}, resolve);
    return line == nullptr ? std::string("none") : line->options;
  };
  EXPECT_EQ(found("/dev/sdb1", "/mnt/a"), "first");
  EXPECT_EQ(found("/dev/sdc1", "/mnt/a"), "second");
  EXPECT_EQ(found("/dev/sdc1", "/mnt/b"), "third");
  EXPECT_EQ(found("/dev/sdb1", "/mnt/b"), "none");
  EXPECT_EQ(found("/dev/sdc1", "/mnt"), "none");
  EXPECT_EQ(found("UUID=1", "/mnt/a"), "none");  // it is for the asker to say what the tag means
  EXPECT_EQ(found("/dev/sdb1", "/mnt/c"), "none");
}

TEST(UserMountPolicy, WithAConsentNothingWidens) {
  const std::vector<std::pair<const char*, long>> cases{
      {"", kAlways},
      {"rw,user=joe,suid,dev", kAlways},
      {"ro,noexec,nosymfollow", kNoExec | MS_RDONLY | MS_NOSYMFOLLOW},
      {"noatime,x-gvfs-show", kAlways | MS_NOATIME},
      {"log=/etc/passwd", kNo},
      {"trusted-service", kNo},
      {"service=/tmp/mine", kNo},
      {"standalone", kNo},
      {"journal_path=/dev/sda", kNo},
      {"noacl", kNo},
      {"discard", kNo},
      {"idmap", kNo},
      {"threads=64", kNo},
      {"cache_size=512m", kNo},
      {"debug", kNo},
      {"remount", kNo},
      {"errors=panic", kNo},
      {"noload", kNo},
      {"anything", kNo},
  };
  for (const auto& [wished, flags] : cases) {
    SCOPED_TRACE(wished);
    const auto options = options_by_consent(wished);
    ASSERT_EQ(options.has_value(), flags != kNo);
    if (!options) continue;
    const auto parsed = parse_mount_options({*options}, {});
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->flags, static_cast<unsigned long>(flags)) << *options;
  }
}

}  // namespace
}  // namespace fuse4fs::helper
