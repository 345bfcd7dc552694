// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryDirectory;

MountRecord example() {
  return {.device = makedev(259, 1048575),
          .source = "/dev/loop3",
          .origin = "/srv/a b\n=\\x41\xff.img",
          .mount_point = "/mnt/\xc3\xa4",
          .mount_id = 1ULL << 63,
          .name_space = 4026531841,
          .pid_name_space = 4026531836,
          .server = {.pid = 17, .start = 99},
          .unit = "fuse4fs@0-1-2.service",
          .user = "ann",
          .owner = 4294967294};
}

TEST(MountRecord, IsReadAsItWasWritten) {
  const std::string text = encode(example());
  EXPECT_EQ(decode_record(text), example());
  EXPECT_NE(text.find("ORIGIN=/srv/a\\x20b\\x0a=\\x5cx41\\xff.img\n"), std::string::npos) << text;
  EXPECT_EQ(decode_record(text + "LATER=x\n"), example());
}

TEST(MountRecord, WhatWasNeverWrittenIsRefused) {
  const std::string text = encode(example());
  for (std::size_t length = 0; length < text.size(); ++length)
    EXPECT_NE(decode_record(text.substr(0, length)), example()) << length;
  for (const char* const wrong :
       {"", "\n", "VERSION=1\n", "VERSION=2\nDEVICE=7:0\nMOUNT_POINT=/x\n",
        "VERSION=1\nDEVICE=7\nMOUNT_POINT=/x\n", "VERSION=1\nDEVICE=0:0\nMOUNT_POINT=/x\n",
        "VERSION=1\nDEVICE=7:0\nMOUNT_POINT=/x\\\n", "VERSION=1\nDEVICE=7:0\nMOUNT_POINT=\\x4\n",
        "VERSION=1\nDEVICE=7:0\nMOUNT_POINT=/x\nPID=1x\n"})
    EXPECT_FALSE(decode_record(wrong)) << wrong;
}

class RecordDirectoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::getuid() != 0) GTEST_SKIP() << "needs root";
  }
  [[nodiscard]] std::string path() const { return directory_.path("run/mounts"); }
  TemporaryDirectory directory_;
};

TEST_F(RecordDirectoryTest, IsMadeForRootAlone) {
  const mode_t before = ::umask(0777);
  const auto made = RecordDirectory::open(path());
  ::umask(before);
  ASSERT_TRUE(made);
  struct stat status = {};
  ASSERT_EQ(::stat(directory_.path("run").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0755U);
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  ASSERT_TRUE(RecordDirectory::open(path()));

  ASSERT_EQ(::chmod(path().c_str(), 0750), 0);
  EXPECT_EQ(RecordDirectory::open(path()).error(), Errno(EPERM));
  ASSERT_EQ(::chmod(path().c_str(), 0700), 0);
  ASSERT_EQ(::chown(path().c_str(), 1, 0), 0);
  EXPECT_EQ(RecordDirectory::open(path()).error(), Errno(EPERM));
  ASSERT_EQ(::chown(path().c_str(), 0, 0), 0);
  ASSERT_EQ(::chmod(directory_.path("run").c_str(), 0775), 0);
  EXPECT_EQ(RecordDirectory::open(path()).error(), Errno(EPERM));
  ASSERT_EQ(::chmod(directory_.path("run").c_str(), 0755), 0);
  fs::rename(path(), directory_.path("elsewhere"));
  fs::create_symlink(directory_.path("elsewhere"), path());
  EXPECT_FALSE(RecordDirectory::open(path()));
}

TEST_F(RecordDirectoryTest, KeepsOneRecordADevice) {
  auto records = RecordDirectory::open(path());
  ASSERT_TRUE(records);
  MountRecord record = example();
  ASSERT_TRUE(records->write(record));
  EXPECT_EQ(records->read(record.device), record);
  struct stat status = {};
  ASSERT_EQ(::stat((path() + "/259:1048575").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);

  const MountRecord older = record;
  record.server.start = 100;
  ASSERT_TRUE(records->write(record));
  records->remove(older);
  EXPECT_EQ(records->read(record.device), record) << "the one who was replaced takes nothing away";
  EXPECT_EQ(records->all(), std::vector{record});
  records->remove(record);
  EXPECT_TRUE(records->all().empty());
  records->remove(record);
}

TEST_F(RecordDirectoryTest, IsNotLedAstray) {
  auto records = RecordDirectory::open(path());
  ASSERT_TRUE(records);
  const MountRecord record = example();
  std::ofstream(directory_.path("outside")) << encode(record);
  fs::create_symlink(directory_.path("outside"), path() + "/259:1048575");
  fs::create_symlink(directory_.path("outside"), path() + "/.new-259:1048575");
  std::ofstream(path() + "/7:1") << encode(record);  // of another device than its name says
  std::ofstream(path() + "/7:2") << std::string(1 << 17, 'x');
  fs::create_directory(path() + "/7:3");
  EXPECT_TRUE(records->all().empty());
  MountRecord newer = record;
  newer.server.pid = 18;
  ASSERT_TRUE(records->write(newer));
  EXPECT_EQ(records->all(), std::vector{newer});
  std::ifstream outside(directory_.path("outside"));
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(outside), {}), encode(record));
}

TEST_F(RecordDirectoryTest, WhatAKilledHelperWasWritingGoes) {
  auto records = RecordDirectory::open(path());
  ASSERT_TRUE(records);
  std::ofstream(path() + "/.new-7:3") << "VERSION=1\nDEV";
  ASSERT_TRUE(records->open_claims());
  const auto files = [&] { return std::distance(fs::directory_iterator(path()), {}); };
  EXPECT_EQ(files(), 2);
  records->remove_stale();
  EXPECT_EQ(files(), 1);
  EXPECT_FALSE(fs::exists(path() + "/.new-7:3"));
}

TEST_F(RecordDirectoryTest, AStaleRecordIsOneOfADeadServer) {
  auto records = RecordDirectory::open(path());
  ASSERT_TRUE(records);
  const pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  MountRecord elsewhere = example();  // of a server that this pid namespace cannot see
  elsewhere.device = makedev(259, 2);
  elsewhere.pid_name_space = own_pid_namespace() + 1;
  MountRecord living = example();
  living.pid_name_space = own_pid_namespace();
  living.server = *identify(child);
  MountRecord reused = example();  // its process number is another process's now
  reused.device = makedev(259, 1);
  reused.pid_name_space = own_pid_namespace();
  reused.server = {.pid = child, .start = living.server.start + 1};
  ASSERT_TRUE(records->write(living));
  ASSERT_TRUE(records->write(reused));
  ASSERT_TRUE(records->write(elsewhere));
  EXPECT_TRUE(find_running(living.server));
  EXPECT_EQ(find_running(reused.server).error(), Errno(ESRCH));
  records->remove_stale();
  EXPECT_THAT(records->all(), ::testing::UnorderedElementsAre(living, elsewhere));
  ::kill(child, SIGKILL);
  siginfo_t info = {};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  // Dead, if not yet buried.
  EXPECT_FALSE(find_running(living.server));
  records->remove_stale();
  EXPECT_EQ(records->all(), std::vector{elsewhere});
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace fuse4fs::helper
