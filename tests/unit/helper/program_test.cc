// SPDX-License-Identifier: GPL-2.0-or-later
// The whole helper as a process, with a fake server as another: real namespaces, real loop devices, real
// mounts.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "helper/abort.h"
#include "helper/bdi.h"
#include "helper/iomap_blessing.h"
#include "helper/mount_table.h"
#include "tests/unit/helper/fake_server.h"
#include "tests/unit/helper/program_fixture.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Attack;
using testing::Behaviour;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::processes_of;
using testing::ProgramTest;
using testing::soon;
using testing::text_of_file;

TEST_F(ProgramTest, MountsAndTheServerOutlivesTheHelper) {
  const Ended ended = mount(Behaviour::kServe, "nosuid,noatime");
  ASSERT_EQ(ended.status, 0) << ended.words;
  const MountEntry entry = mounted();
  EXPECT_EQ(entry.type, "fuseblk.fuse4fs");
  EXPECT_EQ(entry.flags, unsigned{MS_NOSUID | MS_NOATIME});
  EXPECT_EQ(major(entry.device), 7U) << "the loop device's own number";
  struct stat status = {};
  EXPECT_EQ(::stat(mount_point_.c_str(), &status), 0);
  EXPECT_EQ(status.st_blksize, 4096);
  EXPECT_EQ(processes_of(server_).size(), 1U);
  const std::string bdi =
      fmt::format("/sys/class/bdi/{}:{}-fuseblk/", major(entry.device), minor(entry.device));
  EXPECT_EQ(text_of_file(bdi + "max_ratio"), "100\n");
  EXPECT_EQ(text_of_file(bdi + "read_ahead_kb"), "1024\n");

  const Ended again = wait(start({image_, mount_point_}));
  EXPECT_EQ(again.status, 32);
  EXPECT_THAT(again.words, HasSubstr(fmt::format("is mounted on \"{}\" already", mount_point_)));
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
  expect_nothing_left();
}

TEST_F(ProgramTest, BdiKeepLeavesTheLimits) {
  const Ended ended = mount(Behaviour::kServe, "bdi=keep");
  ASSERT_EQ(ended.status, 0) << ended.words;
  const MountEntry entry = mounted();
  const std::string bdi =
      fmt::format("/sys/class/bdi/{}:{}-fuseblk/", major(entry.device), minor(entry.device));
  EXPECT_EQ(text_of_file(bdi + "max_ratio"), "1\n");
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
}

TEST_F(ProgramTest, ReadOnlyIsReadOnlyAndRemounts) {
  Ended ended = mount(Behaviour::kServe, "ro");
  ASSERT_EQ(ended.status, 0) << ended.words;
  EXPECT_EQ(mounted().flags, unsigned{MS_RDONLY | MS_RELATIME});
  ended = wait(start({image_, mount_point_, "-o", "remount,rw"}));
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("unmount it and mount it again"));
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
  // The fake server answers DESTROY before it closes its device.
  ASSERT_EQ(testing::loop_devices_left(image_), 0);

  ASSERT_EQ(mount(Behaviour::kServe, "rw,nosuid").status, 0);
  ended = wait(start(
      {"none", mount_point_, "-o",
       "remount,relatime,user_id=0,group_id=0,default_permissions,allow_other,blksize=4096,noexec,ro"}));
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_EQ(mounted().flags, unsigned{MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_RELATIME});
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
}

TEST_F(ProgramTest, AFailingServerLeavesNothingButItsWords) {
  struct Case {
    Behaviour behaviour;
    const char* words;
  };
  const Case cases[] = {
      {Behaviour::kGiveUpBeforeMount, "the superblock is not one"},
      {Behaviour::kGiveUpAfterMount, "the journal is not one"},
      {Behaviour::kVanishAfterMount, "the server ended with status 9"},
      {Behaviour::kCrashAfterMount, "the server "},
      {Behaviour::kGarbage, "the server broke off"},
  };
  for (const auto& [behaviour, words] : cases) {
    const Ended ended = mount(behaviour);
    EXPECT_EQ(ended.status, 32);
    EXPECT_THAT(ended.words, HasSubstr(words));
    EXPECT_THAT(ended.words, HasSubstr(fmt::format("\"{}\" is not mounted on \"{}\"", image_, mount_point_)));
    expect_nothing_left();
  }
}

TEST_F(ProgramTest, AServerThatCannotBeStartedIsSaidSo) {
  std::ofstream(server_) << "no program\n";
  Ended ended = mount(Behaviour::kServe);
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("the server cannot be started: its program: Exec format error"));
  fs::remove(server_);
  ended = mount(Behaviour::kServe);
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("libexec/fuse4fs/fuse4fs\" cannot be started"));
}

TEST_F(ProgramTest, WordsOfAHostileServerAreTamed) {
  const Ended ended = mount(Behaviour::kHostileWords);
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("[2Jevil??word\n"));
  for (const char c : ended.words)
    EXPECT_TRUE((c >= ' ' && c <= '~') || c == '\n' || static_cast<unsigned char>(c) >= 0x80) << int{c};
  EXPECT_LT(ended.words.size(), 66000U);
  EXPECT_GT(ended.words.size(), 65536U);
}

TEST_F(ProgramTest, TheServerIsContainedFromItsFirstInstruction) {
  const Ended ended = mount(Behaviour::kReportSurroundings);
  EXPECT_EQ(ended.status, 32);
  const std::string& words = ended.words;
  EXPECT_THAT(
      words, ContainsRegex("uid [1-9][0-9]* [1-9][0-9]* gid [1-9][0-9]* [1-9][0-9]* groups 0 pid 1 sid 1\n"));
  EXPECT_THAT(words, HasSubstr("umask 77\n"));
  EXPECT_THAT(words, HasSubstr("cwd /\n"));
  // The three that greet() has just received come after 3.
  EXPECT_THAT(words, ContainsRegex("descriptors 0 1 2 3 4 5\n"));
  EXPECT_THAT(words, HasSubstr("variable LISTEN_FDS=1\n"));
  EXPECT_THAT(words, Not(HasSubstr("SECRET")));
  EXPECT_THAT(words, HasSubstr("CapBnd:\t0000000000000000\n"));
  for (const char* const field : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
    EXPECT_THAT(words, HasSubstr(fmt::format("{}:\t0000000000200000\n", field)));
  EXPECT_THAT(words, HasSubstr("SigBlk:\t0000000000000000\n"));
  EXPECT_THAT(words, HasSubstr("SigIgn:\t0000000000000000\n"));
  for (const char* const kind : {"user", "pid", "net", "ipc", "uts"}) {
    const std::string ours = fs::read_symlink(fmt::format("/proc/self/ns/{}", kind));
    EXPECT_THAT(words, HasSubstr(fmt::format("namespace {}:[", kind)));
    EXPECT_THAT(words, Not(HasSubstr(ours))) << kind;
  }
}

TEST_F(ProgramTest, ASignalEndsTheWaitAndUndoesEverything) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const pid_t pid = start({image_, mount_point_, "-o",
                             fmt::format("threads={}", static_cast<int>(Behaviour::kHangAfterMount))});
    EXPECT_TRUE(soon([&] { return find_mount(mount_point_).has_value(); }));
    ::kill(pid, signal);
    const Ended ended = wait(pid);
    EXPECT_EQ(ended.status, 8) << ended.words;
    expect_nothing_left();
  }
}

TEST_F(ProgramTest, IomapIsRefusedInWordsWhereTheKernelHasNone) {
  const UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  const auto blessed = bless_for_iomap(fuse.get(), IomapWish::kRequired);
  const Ended ended = mount(Behaviour::kServe, "iomap");
  if (blessed) {
    EXPECT_EQ(ended.status, 0) << ended.words;
    return;
  }
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("option iomap cannot be heeded: " + blessed.error().message));
  expect_no_trace();
}

TEST_F(ProgramTest, WithoutIomapEverythingGoesThroughTheServer) {
  const Ended ended = mount(Behaviour::kServe, "noiomap,lazytime");
  EXPECT_EQ(ended.status, 0);
  EXPECT_THAT(ended.words, AllOf(HasSubstr("file I/O goes through the server: option noiomap"),
                                 HasSubstr("option \"lazytime\" has no effect")));
  const auto entry = find_mount(mount_point_);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->flags & kLazyTime, 0U);
}

TEST_F(ProgramTest, ARemountKeepsLazytimeAndGivesItOnlyToMountsWithIomap) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const auto flags = [&] { return find_mount(mount_point_).value_or(MountEntry{}).flags; };
  const auto remount = [&](const char* options) {
    return run({image_, mount_point_, "-v", "-o", fmt::format("remount,{}", options)});
  };
  Ended ended = remount("lazytime");
  EXPECT_EQ(ended.status, 0) << ended.words;
  const bool with_iomap = has_iomap(find_mount(mount_point_)->device, MountType::kFuseBlock);
  EXPECT_EQ((flags() & kLazyTime) != 0, with_iomap);
  EXPECT_EQ(ended.words.find("option \"lazytime\" has no effect") == std::string::npos, with_iomap);
  // As the kernel's part of a mount with iomap has it.
  ASSERT_EQ(::mount("none", mount_point_.c_str(), nullptr, MS_REMOUNT | kLazyTime, nullptr), 0);
  for (const char* const options : {"noexec", "lazytime"}) {
    ended = remount(options);
    EXPECT_EQ(ended.status, 0) << ended.words;
    EXPECT_EQ(flags() & (MS_NOEXEC | kLazyTime), MS_NOEXEC | kLazyTime);
  }
  EXPECT_EQ(remount("nolazytime").status, 0);
  EXPECT_EQ(flags() & (MS_NOEXEC | kLazyTime), unsigned{MS_NOEXEC});
}

// The kernel would give iomap to whatever somebody with that capability mounts.
TEST_F(ProgramTest, WhatTheBlessingTakesIsGivenUpBeforeTheServerIsHeard) {
  plan_attack(Attack::kHang, 1);
  const pid_t helper = start({image_, mount_point_, "-o", "standalone,noiomap"});
  EXPECT_TRUE(
      soon([&] { return text_of_file(directory_.path("words")).find("at step 1\n") != std::string::npos; }));
  const std::string status = text_of_file(fmt::format("/proc/{}/status", helper));
  for (const char* const set : {"CapEff:\t", "CapPrm:\t"}) {
    const auto place = status.find(set);
    ASSERT_NE(place, std::string::npos);
    const auto capabilities = std::stoull(status.substr(place + std::strlen(set), 16), nullptr, 16);
    EXPECT_NE(capabilities & 1ULL << CAP_SYS_ADMIN, 0U);
    EXPECT_EQ(capabilities & 1ULL << CAP_SYS_RAWIO, 0U);
  }
  ::kill(helper, SIGTERM);
  EXPECT_EQ(wait(helper).status, 8);
}

TEST_F(ProgramTest, AHungMountIsAborted) {
  ASSERT_EQ(mount(Behaviour::kServeDeaf).status, 0);
  std::thread hung([&] {
    struct stat status = {};
    EXPECT_NE(::stat((mount_point_ + "/file").c_str(), &status), 0);
  });
  const Ended ended = wait(start({"--abort", mount_point_ + "/"}));
  EXPECT_EQ(ended.status, 0) << ended.words;
  hung.join();
  EXPECT_THAT(ended.words, HasSubstr("was killed"));
  EXPECT_EQ(processes_of(server_).size(), 0U) << "the deaf one would hold the device";
  expect_nothing_left();
}

TEST_F(ProgramTest, AbortKillsAStoppedServerAndNoOther) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const auto servers = processes_of(server_);
  ASSERT_EQ(servers.size(), 1U);
  // Has both kinds of files open, but of another device.
  const std::string other_image = directory_.make_image("other");
  const std::string other_place = fs::canonical(directory_.make_directory("other-mnt"));
  ASSERT_EQ(wait(start({other_image, other_place, "-o", "threads=1"})).status, 0);
  ASSERT_EQ(::kill(servers.front(), SIGSTOP), 0);
  const auto began = std::chrono::steady_clock::now();
  const Ended ended = wait(start({"--abort", mount_point_}));
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::seconds(2)) << "time to end in order";
  EXPECT_FALSE(find_mount(mount_point_));
  EXPECT_EQ(testing::loop_devices_left(image_), 0);
  EXPECT_EQ(processes_of(server_).size(), 1U) << "the other one";
  struct stat status = {};
  EXPECT_EQ(::stat(other_place.c_str(), &status), 0) << "serves on";
  // And the image is free again.
  EXPECT_EQ(mount(Behaviour::kServe).status, 0);
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
  EXPECT_EQ(::umount2(other_place.c_str(), UMOUNT_NOFOLLOW), 0);
}

TEST_F(ProgramTest, AServerThatEndsByItselfIsNotKilled) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const Ended ended = wait(start({"--abort", mount_point_}));
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.words, "");
}

TEST_F(ProgramTest, NobodyReadingTheWordsIsNoReasonToStop) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[0]);
  const UniqueFd broken(ends[1]);
  // -v, and an option that is let pass: words before and after the mount.
  const Ended ended = wait(start({image_, mount_point_, "-v", "-o", "threads=1,delalloc"}, broken.get()));
  EXPECT_EQ(ended.status, 0);
  EXPECT_TRUE(find_mount(mount_point_));
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
}

TEST_F(ProgramTest, ARemountNamesWhatItCannotChange) {
  ASSERT_EQ(mount(Behaviour::kServe, "rw").status, 0);
  const Ended ended =
      wait(start({"none", mount_point_, "-o",
                  "remount,errors=panic,threads=3,noload,log=/nonexistent,nosuid,nofail,x-test"}));
  EXPECT_EQ(ended.status, 0);
  for (const char* const option : {"errors=panic", "threads=3", "noload", "log=/nonexistent"}) {
    EXPECT_THAT(
        ended.words,
        HasSubstr(fmt::format("option \"{}\" is not changed by a remount: it takes a new mount\n", option)));
  }
  EXPECT_EQ(std::ranges::count(ended.words, '\n'), 4) << ended.words;
  EXPECT_EQ(mounted().flags, unsigned{MS_NOSUID | MS_RELATIME});
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
}

TEST_F(ProgramTest, AnOptionThatTunesIsNotSaidWithoutAsking) {
  const Ended ended = wait(start({image_, mount_point_, "-o", "threads=1,delalloc"}));
  EXPECT_EQ(ended.status, 0);
  EXPECT_THAT(ended.words, Not(HasSubstr("delalloc")));
  EXPECT_EQ(::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW), 0);
}

// In a chroot the kernel makes no user namespaces.
TEST_F(ProgramTest, ALessContainedServerIsSaidSo) {
  const std::string root = directory_.make_directory("root");
  const pid_t pid = ::fork();
  if (pid == 0) {
    const bool there = ::unshare(CLONE_NEWNS) == 0 &&
                       ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("/", root.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0 &&
                       ::chroot(root.c_str()) == 0 && ::chdir("/") == 0;
    if (!there) ::_exit(124);
    const pid_t helper = start({image_, mount_point_, "-o",
                                fmt::format("threads={}", static_cast<int>(Behaviour::kGiveUpBeforeMount))});
    ::_exit(wait(helper).status);
  }
  const Ended ended = wait(pid);
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("less contained"));
  EXPECT_THAT(ended.words, HasSubstr("no user namespace of its own"));
  EXPECT_THAT(ended.words, HasSubstr("the superblock is not one"));
}

TEST_F(ProgramTest, AbortTouchesFuse4fsMountsOnly) {
  Ended ended = wait(start({"--abort", mount_point_}));
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("is not a mount point"));
  ASSERT_EQ(::mount("none", mount_point_.c_str(), "tmpfs", 0, nullptr), 0);
  ended = wait(start({"--abort", mount_point_}));
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("of type \"tmpfs\""));
  ended = wait(start({"x", mount_point_, "-o", "remount,ro"}));
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("of type \"tmpfs\""));
  EXPECT_TRUE(find_mount(mount_point_));
  ::umount2(mount_point_.c_str(), MNT_DETACH);
}

TEST_F(ProgramTest, FakeDoesEverythingButTheMount) {
  const Ended ended = wait(start({image_, mount_point_, "-f"}));
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_EQ(wait(start({directory_.path("absent"), mount_point_, "-f"})).status, 32);
}

TEST_F(ProgramTest, OnlyRootMounts) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    const bool lowered = ::setgroups(0, nullptr) == 0 && ::setresgid(65534, 65534, 65534) == 0 &&
                         ::setresuid(65534, 65534, 65534) == 0;
    if (!lowered) ::_exit(125);
    ::execl(helper_.c_str(), helper_.c_str(), image_.c_str(), mount_point_.c_str(), nullptr);
    ::_exit(126);
  }
  EXPECT_EQ(wait(pid).status, 1);
}

TEST_F(ProgramTest, MountsInAnotherMountNamespace) {
  // A process that does nothing but have a mount namespace.
  const pid_t holder = ::fork();
  if (holder == 0) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      ::_exit(1);
    for (;;) ::pause();
  }
  const auto namespace_of = [](pid_t pid) {
    std::error_code error;
    return fs::read_symlink(fmt::format("/proc/{}/ns/mnt", pid), error);
  };
  ASSERT_TRUE(soon([&] { return namespace_of(holder) != namespace_of(::getpid()); }));
  const Ended ended = wait(start({image_, mount_point_, "-N", std::to_string(holder), "-o", "threads=1"}));
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_FALSE(find_mount(mount_point_));
  EXPECT_THAT(text_of_file(fmt::format("/proc/{}/mountinfo", holder)), HasSubstr(" " + mount_point_ + " "));
  const Ended failed =
      wait(start({image_, mount_point_, "-N", std::to_string(holder), "-o", "ro,threads=3"}));
  EXPECT_EQ(failed.status, 32);
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
}

}  // namespace
}  // namespace fuse4fs::helper
