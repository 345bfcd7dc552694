// SPDX-License-Identifier: GPL-2.0-or-later
// --stop, by directory and by record; and a device that is mounted a second time.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/unique_fd.h"
#include "helper/mount_place.h"
#include "helper/source.h"
#include "helper/stop.h"
#include "tests/unit/helper/program_fixture.h"

namespace fuse4fs::helper {
namespace {

namespace fs = std::filesystem;
using testing::Behaviour;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::processes_of;
using testing::soon;

using StopTest = testing::ProgramTest;

TEST_F(StopTest, ByDirectoryAndNothingIsLeft) {
  ASSERT_EQ(mount(Behaviour::kServe, "user=ann").status, 0);
  const auto record = this->record();
  ASSERT_TRUE(record);
  EXPECT_EQ(record->device, mounted().device);
  EXPECT_EQ(record->mount_point, mount_point_);
  EXPECT_EQ(processes_of(server_), std::vector{record->server.pid});
  EXPECT_TRUE(find_running(record->server));
  EXPECT_EQ(record->unit, "");
  EXPECT_EQ(record->user, "ann");
  EXPECT_NE(record->mount_id, 0U);
  const Ended ended = run({"--stop", mount_point_ + "/"});
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_EQ(ended.words, "");
  expect_no_trace();
}

TEST_F(StopTest, ByTheServersProcess) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const pid_t server = record()->server.pid;
  // Another's number changes nothing.
  EXPECT_EQ(run({"--stop", "--pid", std::to_string(::getpid())}).status, 0);
  EXPECT_EQ(run({"--stop", "--unit", "fuse4fs@none.service"}).status, 0);
  EXPECT_TRUE(find_mount(mount_point_));
  // As systemd says it.
  ::setenv("MAINPID", std::to_string(server).c_str(), 1);
  const Ended ended = run({"--stop"});
  ::unsetenv("MAINPID");
  EXPECT_EQ(ended.status, 0) << ended.words;
  expect_no_trace();
}

TEST_F(StopTest, ByItsUnitAndEachOfItsMounts) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const std::string second = fs::canonical(directory_.make_directory("second"));
  ASSERT_EQ(run({image_, second}).status, 0);
  auto record = *this->record();
  record.unit = fmt::format("fuse4fs@{}.service", ::getpid());
  ASSERT_TRUE(RecordDirectory::open()->write(record));
  EXPECT_EQ(run({"--stop", "--unit", record.unit}).status, 0);
  EXPECT_FALSE(find_mount(second));
  expect_no_trace();
}

TEST_F(StopTest, ABusyMountIsToldSo) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const pid_t user = ::fork();
  if (user == 0) {
    if (::chdir(mount_point_.c_str()) != 0) ::_exit(1);
    for (;;) ::pause();
  }
  const std::string directory = fmt::format("/proc/{}/cwd", user);
  ASSERT_TRUE(soon([&] {
    std::error_code error;
    return fs::read_symlink(directory, error) == mount_point_;
  }));
  const pid_t server = record()->server.pid;
  Ended ended = run({"--stop", "--pid", std::to_string(server)});
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr(fmt::format("\"{}\" is not unmounted: it is busy: process {} (",
                                                 mount_point_, user)));
  EXPECT_THAT(ended.words, HasSubstr("works in it"));
  EXPECT_TRUE(find_mount(mount_point_));
  EXPECT_TRUE(record()) << "it can be stopped later";
  // Only when asked.
  ended = run({"--stop", "--lazy", "--pid", std::to_string(server)});
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_FALSE(find_mount(mount_point_));
  EXPECT_EQ(processes_of(server_).size(), 1U) << "it serves its user still";
  ::kill(user, SIGKILL);
  ::waitpid(user, nullptr, 0);
  EXPECT_TRUE(soon([&] { return processes_of(server_).empty(); }));
  EXPECT_EQ(run({"--stop"}).status, 0);
  EXPECT_FALSE(record()) << "cleared up by the next one";
}

TEST_F(StopTest, OtherMountsAreLeftAlone) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  // On top of ours, at the very place that the record names.
  ASSERT_EQ(::mount("none", mount_point_.c_str(), "tmpfs", 0, nullptr), 0);
  const pid_t server = record()->server.pid;
  Ended ended = run({"--stop", "--pid", std::to_string(server)});
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("another mount covers it"));
  EXPECT_EQ(mounted().type, "tmpfs");
  ended = run({"--stop", mount_point_});
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("of type \"tmpfs\""));
  ASSERT_EQ(::umount2(mount_point_.c_str(), 0), 0);
  EXPECT_EQ(run({"--stop", "--pid", std::to_string(server)}).status, 0);
  expect_no_trace();
}

TEST_F(StopTest, OnlyTheMountThatWasJudged) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const std::string second = fs::canonical(directory_.make_directory("second"));
  ASSERT_EQ(run({image_, second}).status, 0);
  const auto place = MountPlace::find(*find_mount(second));
  ASSERT_TRUE(place);
  // As if it had been unmounted since, and its id given to another mount.
  MountIdentity other = place->identity();
  ++other.unique_id;
  auto stopped = stop({.directory = second, .only = other});
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().error, Errno(ESTALE));
  EXPECT_TRUE(find_mount(second));
  // Whatever the directory is by then.
  stopped = stop({.directory = mount_point_, .only = place->identity()});
  EXPECT_TRUE(stopped);
  EXPECT_FALSE(find_mount(second));
  EXPECT_TRUE(find_mount(mount_point_));
  stopped = stop({.directory = second, .only = place->identity()});
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().error, Errno(EINVAL));
  EXPECT_EQ(run({"--stop", mount_point_}).status, 0);
  expect_no_trace();
}

TEST_F(StopTest, ADeadServersMountIsUnmounted) {
  ASSERT_EQ(mount(Behaviour::kServe).status, 0);
  const auto record = *this->record();
  ::kill(record.server.pid, SIGKILL);
  ASSERT_TRUE(soon([&] { return processes_of(server_).empty(); }));
  // The process number is nobody's, so only the directory leads to it.
  const Ended ended = run({"--stop", mount_point_});
  EXPECT_EQ(ended.status, 0) << ended.words;
  expect_no_trace();
}

// systemd's commands may be given a mount namespace of their own. Here all of it is in another pid namespace,
// so that its process 1 is one that has the mount.
TEST_F(StopTest, FromAnotherMountNamespace) {
  const std::string script = directory_.path("script");
  std::ofstream(script) << fmt::format(
      "set -e\n"
      "{0} {1} {2} -o standalone,threads=1\n"
      // Others' records come and go meanwhile, and another one may soon have the name of this.
      "record=$(grep -ls '^ORIGIN={1}$' {3}/* || :)\n"
      "test -n \"$record\"\n"
      "server=$(sed -n 's/^PID=//p' $record)\n"
      "unshare --mount --propagation private sh -ec 'umount {2}; exec {0} --stop --pid '$server\n"
      "! findmnt {2}\n"
      "! grep -qs '^ORIGIN={1}$' $record\n",
      helper_, image_, mount_point_, kRecordDirectory);
  EXPECT_EQ(
      std::system(("unshare --mount --propagation private --pid --fork --mount-proc sh " + script).c_str()),
      0);
  expect_no_trace();
}

TEST_F(StopTest, ASecondMountShowsTheSameFileSystem) {
  ASSERT_EQ(mount(Behaviour::kServe, "nosuid").status, 0);
  const dev_t device = mounted().device;
  const std::string second = fs::canonical(directory_.make_directory("second"));
  const std::string third = fs::canonical(directory_.make_directory("third"));
  // By the image and by its loop device.
  Ended ended = run({image_, second, "-v", "-o", "nodev,noexec,errors=continue"});
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_THAT(ended.words, HasSubstr("option \"errors=continue\" changes nothing"));
  ended = run({record()->source, third});
  EXPECT_EQ(ended.status, 0) << ended.words;
  EXPECT_EQ(find_mount(second)->device, device);
  EXPECT_EQ(find_mount(third)->device, device);
  EXPECT_EQ(find_mount(second)->type, "fuseblk.fuse4fs");
  EXPECT_EQ(find_mount(second)->flags, unsigned{MS_NODEV | MS_NOEXEC | MS_RELATIME}) << "its own flags";
  EXPECT_EQ(mounted().flags, unsigned{MS_NOSUID | MS_RELATIME});
  EXPECT_EQ(processes_of(server_).size(), 1U);
  EXPECT_EQ(testing::loop_devices_of(image_), 1);
  struct stat one = {};
  struct stat other = {};
  EXPECT_EQ(::stat(mount_point_.c_str(), &one), 0);
  EXPECT_EQ(::stat(second.c_str(), &other), 0);
  EXPECT_EQ(one.st_dev, other.st_dev);

  // As the kernel's ext4: not half of it read-only.
  ended = run({image_, mount_point_, "-o", "ro"});
  EXPECT_EQ(ended.status, 32);
  ended = run({image_, fs::canonical(directory_.make_directory("fourth")), "-o", "ro"});
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("is mounted already, for reading and writing"));

  // The first one goes, the others stay.
  ASSERT_EQ(::umount2(mount_point_.c_str(), 0), 0);
  EXPECT_EQ(::stat(second.c_str(), &other), 0);
  ASSERT_EQ(::umount2(third.c_str(), 0), 0);
  EXPECT_EQ(run({"--stop", second}).status, 0);
  expect_no_trace();
}

// Between its server's closing of the device and its end a record says "mounted" still; and by then the
// number may be another device's: loop devices are used again.
TEST_F(StopTest, ADeviceThatAnEndingServerHadIsMountedAnew) {
  {
    const auto device = Source::open(image_, {.claim = Claim::kLeftToService});
    ASSERT_TRUE(device);
    const MountRecord ending{.device = device->device_number(),
                             .source = device->path(),
                             .origin = "/elsewhere",
                             .mount_point = "/elsewhere",
                             .mount_id = 1,
                             .name_space = 1,
                             .pid_name_space = own_pid_namespace(),
                             .server = *identify(::getpid()),
                             .unit = {},
                             .user = {}};
    ASSERT_TRUE(RecordDirectory::open()->write(ending));
    const Ended ended = run({device->path(), mount_point_, "-o", "standalone,threads=1"});
    EXPECT_EQ(ended.status, 0) << ended.words;
    EXPECT_EQ(mounted().device, device->device_number());
    EXPECT_EQ(run({"--stop", mount_point_}).status, 0);
    RecordDirectory::open()->remove(ending);
  }
  expect_no_trace();
}

TEST_F(StopTest, ADeviceInUseByAnythingElseIsRefused) {
  // By a claim like that of the kernel, of LVM and of swap.
  ASSERT_EQ(mount(Behaviour::kServe, "ro").status, 0);
  const std::string device = record()->source;
  const UniqueFd kept(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(run({"--stop", mount_point_}).status, 0);
  // The mount's own claim goes a moment after it, where another process still has a look at the mount.
  UniqueFd claim;
  ASSERT_TRUE(soon([&] {
    claim = UniqueFd(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    return static_cast<bool>(claim);
  }));
  for (const std::string& source : {device, image_}) {
    const Ended ended = run({source, mount_point_});
    EXPECT_EQ(ended.status, 32);
    EXPECT_THAT(ended.words, HasSubstr("in use"));
  }
  EXPECT_FALSE(find_mount(mount_point_));
}

TEST_F(StopTest, TheJournalsDeviceIsClaimedAndNamedToTheServer) {
  const std::string journal = directory_.make_image("journal");
  const std::string option = "journal_path=" + journal;
  ASSERT_EQ(mount(Behaviour::kServe, option).status, 0);
  // The fake server has not asked for it; the helper's own claim went with the helper.
  EXPECT_EQ(testing::loop_devices_left(journal), 0);
  ASSERT_EQ(run({"--stop", mount_point_}).status, 0);
  Ended ended = mount(Behaviour::kServe, "journal_path=" + directory_.path("absent"));
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("absent"));
  ended = mount(Behaviour::kServe, "journal_path=" + image_);
  EXPECT_EQ(ended.status, 32);
  EXPECT_THAT(ended.words, HasSubstr("is in use already")) << "the volume is not its own journal";
  expect_no_trace();
}

TEST_F(StopTest, NoFailForgivesAMissingSourceOnly) {
  const std::string absent = directory_.path("absent");
  EXPECT_EQ(run({absent, mount_point_}).status, 32);
  Ended ended = run({absent, mount_point_, "-o", "nofail,noauto,x-systemd.automount,_netdev,users"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.words, "");
  ended = run({"UUID=00000000-dead-beef-0000-000000000000", mount_point_, "-v", "-o", "nofail"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_THAT(ended.words, HasSubstr("nofail"));
  EXPECT_EQ(run({directory_.make_image("empty", 0), mount_point_, "-o", "nofail"}).status, 32);
}

TEST_F(StopTest, WrongCallsAreRefused) {
  for (const std::vector<std::string>& call : {std::vector<std::string>{"--stop", "/a", "/b"},
                                               {"--stop", "/a", "--unit", "x"},
                                               {"--stop", "--pid", "x"},
                                               {"--stop", "--pid", "-1"},
                                               {"--lazy", "/a", "/b"},
                                               {"--unit", "x", "/a", "/b"}}) {
    EXPECT_EQ(run(call).status, 1) << call.back();
  }
  EXPECT_EQ(run({"--stop", mount_point_}).status, 32);
}

}  // namespace
}  // namespace fuse4fs::helper
