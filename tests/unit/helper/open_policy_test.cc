// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/open_policy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

namespace fuse4fs::helper {
namespace {

using protocol::OpenBlockDevice;
using protocol::OpenFile;
using What = OpenVerdict::What;

constexpr char kSource[] = "/dev/loop7";

OpenBlockDevice device(const std::string& path, int flags, std::uint32_t block_size = 0) {
  return {.path = path, .open_flags = static_cast<std::uint32_t>(flags), .block_size = block_size};
}
OpenFile file(const std::string& path, int flags = O_RDONLY) {
  return {.path = path, .open_flags = static_cast<std::uint32_t>(flags)};
}

TEST(OpenPolicy, TheServerGetsItsDevice) {
  const OpenPolicy policy(Trust::kOwnServer, kSource, Access::kReadWrite);
  EXPECT_EQ(policy.judge(device(kSource, O_RDWR)), (OpenVerdict{What::kDevice, O_RDWR}));
  EXPECT_EQ(policy.judge(device(kSource, O_RDONLY | O_DIRECT)),
            (OpenVerdict{What::kDevice, O_RDONLY | O_DIRECT}));
  EXPECT_EQ(policy.judge(file(kSource, O_RDWR)), (OpenVerdict{What::kDevice, O_RDWR}));
}

TEST(OpenPolicy, TheClaimStaysTheHelpers) {
  const OpenPolicy own(Trust::kOwnServer, kSource, Access::kReadWrite);
  EXPECT_EQ(own.judge(device(kSource, O_RDWR | O_EXCL | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | 0100000)),
            (OpenVerdict{What::kDevice, O_RDWR}));
  const OpenPolicy other(Trust::kPlainService, kSource, Access::kReadWrite);
  EXPECT_EQ(other.judge(device(kSource, O_RDWR | O_EXCL)), (OpenVerdict{What::kDevice, O_RDWR | O_EXCL}));
}

TEST(OpenPolicy, ReadOnlyIsNotWidened) {
  const OpenPolicy policy(Trust::kOwnServer, kSource, Access::kReadOnly);
  EXPECT_EQ(policy.judge(device(kSource, O_RDWR)), fail(EROFS));
  EXPECT_EQ(policy.judge(device(kSource, O_WRONLY)), fail(EACCES));
  EXPECT_TRUE(policy.judge(device(kSource, O_RDONLY)));
}

TEST(OpenPolicy, EveryOtherFlagIsRefused) {
  const OpenPolicy policy(Trust::kOwnServer, kSource, Access::kReadWrite);
  constexpr int kAllowed = O_ACCMODE | O_DIRECT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_EXCL | 0100000;
  for (int bit = 0; bit < 32; ++bit) {
    const std::uint32_t flag = 1U << bit;
    if ((flag & static_cast<std::uint32_t>(kAllowed)) != 0) continue;
    EXPECT_EQ(policy.judge(OpenBlockDevice{.path = kSource, .open_flags = flag}), fail(EACCES)) << flag;
  }
  EXPECT_EQ(policy.judge(device(kSource, O_WRONLY)), fail(EACCES));
  EXPECT_EQ(policy.judge(device(kSource, O_ACCMODE)), fail(EACCES));
}

TEST(OpenPolicy, ForeignPathsAreRefused) {
  const OpenPolicy policy(Trust::kOwnServer, kSource, Access::kReadWrite);
  for (const char* const path :
       {"/etc/shadow", "/dev/sda", "/dev/loop77", "/dev/loop7/", "/dev/./loop7", "dev/loop7", "loop7",
        "/dev/fuse", "/dev/kmsg", "/proc/self/mem", "fuse4fs:", "fuse4fs:journalx", "fuse4fs:JOURNAL"}) {
    EXPECT_EQ(policy.judge(file(path)), fail(EACCES)) << path;
    EXPECT_EQ(policy.judge(device(path, O_RDONLY)), fail(EACCES)) << path;
  }
}

TEST(OpenPolicy, ReservedNamesNeverAnswerEnoent) {
  const OpenPolicy own(Trust::kOwnServer, kSource, Access::kReadWrite);
  EXPECT_EQ(own.judge(file("fuse4fs:journal")), (OpenVerdict{What::kLog, 0}));
  EXPECT_EQ(own.judge(file("fuse4fs:clone")), (OpenVerdict{What::kClone, 0}));
  EXPECT_EQ(own.judge(file("fuse4fs:notify")), (OpenVerdict{What::kNotify, 0}));
  EXPECT_EQ(own.judge(file("fuse4fs:psi")), (OpenVerdict{What::kPressure, 0}));
  // They are no devices, and no other service's.
  EXPECT_EQ(own.judge(device("fuse4fs:journal", O_RDONLY)), fail(EACCES));
  const OpenPolicy other(Trust::kPlainService, kSource, Access::kReadWrite);
  EXPECT_EQ(other.judge(file("fuse4fs:clone")), fail(EACCES));
}

TEST(OpenPolicy, ATrustedServiceOpensPathsButMakesNone) {
  const OpenPolicy trusted(Trust::kTrustedService, kSource, Access::kReadOnly);
  EXPECT_EQ(trusted.judge(file("/etc/keys", O_RDONLY)), (OpenVerdict{What::kAnyPath, O_RDONLY}));
  EXPECT_EQ(trusted.judge(device("/dev/sdz", O_RDWR | O_EXCL)),
            (OpenVerdict{What::kAnyPath, O_RDWR | O_EXCL}));
  EXPECT_EQ(trusted.judge(file("etc/keys")), fail(EACCES));
  for (const int flag : {O_CREAT, O_TRUNC, O_APPEND, O_PATH, O_TMPFILE})
    EXPECT_EQ(trusted.judge(file("/etc/keys", O_RDWR | flag)), fail(EACCES)) << flag;
  // Its own source goes by the rules of the source.
  EXPECT_EQ(trusted.judge(device(kSource, O_RDWR)), fail(EROFS));
  EXPECT_EQ(OpenPolicy(Trust::kPlainService, kSource, Access::kReadWrite).judge(file("/etc/keys")),
            fail(EACCES));
}

TEST(OpenPolicy, TheJournalsDeviceIsTheNamedOne) {
  const OpenPolicy policy(Trust::kOwnServer, kSource, Access::kReadWrite,
                          NamedDevice{"/dev/loop8", Access::kReadOnly});
  EXPECT_EQ(policy.judge(device("/dev/loop8", O_RDONLY | O_EXCL)),
            (OpenVerdict{What::kJournalDevice, O_RDONLY}));
  EXPECT_EQ(policy.judge(device("/dev/loop8", O_RDWR)), fail(EROFS));
  EXPECT_EQ(policy.judge(device("/dev/loop9", O_RDONLY)), fail(EACCES));
  EXPECT_EQ(policy.judge(device(kSource, O_RDWR)), (OpenVerdict{What::kDevice, O_RDWR}));
}

TEST(OpenPolicy, BlockSizes) {
  const OpenPolicy policy(Trust::kOwnServer, kSource, Access::kReadWrite);
  const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
  for (const std::uint32_t size : {0U, 512U, 1024U, 2048U, page})
    EXPECT_TRUE(policy.judge(device(kSource, O_RDWR, size))) << size;
  for (const std::uint32_t size : {1U, 256U, 511U, 513U, 3072U, page * 2, 1U << 31, ~0U})
    EXPECT_EQ(policy.judge(device(kSource, O_RDWR, size)), fail(EINVAL)) << size;
}

}  // namespace
}  // namespace fuse4fs::helper
