// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/command_session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "helper/memory_pressure.h"
#include "helper/mount_options.h"
#include "helper/service_socket.h"
#include "tests/unit/helper/command_session_fixture.h"

namespace fuse4fs::helper {
namespace {

using protocol::Bytes;
using protocol::Command;
using testing::CommandSessionTest;
using testing::HostileServer;
using testing::TemporaryDirectory;

class ReadOnlyCommandSessionTest : public CommandSessionTest {
 protected:
  ReadOnlyCommandSessionTest() { access_ = Access::kReadOnly; }
};

TEST_F(CommandSessionTest, TheWholeWay) {
  HostileServer server = start(Trust::kOwnServer, MS_NOSUID);
  EXPECT_EQ(server.ask(device(O_RDWR, 4096)), 0);
  EXPECT_EQ(server.ask(device(O_RDWR | O_DIRECT)), 0);
  EXPECT_EQ(server.ask(type()), 0);
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(options("default_permissions,allow_other,blksize=1024,max_read=131072")), 0);
  EXPECT_EQ(server.ask(protocol::SetMtabOptions{"x"}), 0);
  EXPECT_EQ(server.ask(doit(MS_NODEV | MS_NOATIME)), 0);
  server.send(encode(Command(protocol::Goodbye{0})));
  EXPECT_EQ(end_session(), 0U);
  EXPECT_TRUE(mounted_);
  // MS_NOATIME is not a server's to choose.
  EXPECT_EQ(wishes_,
            (std::vector<MountRequest>{{MountType::kFuseBlock, MS_NOSUID | MS_NODEV, 1024, 131072}}));
}

TEST_F(CommandSessionTest, NothingIsAskedTwice) {
  HostileServer server = start();
  for (const Command& command :
       {type(), name(), place(), options("allow_other"), Command(protocol::SetMtabOptions{"x"})}) {
    EXPECT_EQ(server.ask(command), 0);
    EXPECT_EQ(server.ask(command), EINVAL);
  }
  EXPECT_EQ(server.ask(doit()), 0);
  for (const Command& command : {type(), name(), place(), options("ro"), doit()})
    EXPECT_EQ(server.ask(command), EINVAL);
  EXPECT_EQ(wishes_.size(), 1U);
  server.leave();
  EXPECT_EQ(end_session(), fail(ECONNRESET));
  EXPECT_TRUE(mounted_) << "whoever runs the session has to undo it";
}

TEST_F(CommandSessionTest, AMountNeedsNameAndPlace) {
  HostileServer server = start();
  EXPECT_EQ(server.ask(doit()), EINVAL);
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(doit()), EINVAL);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), 0);
  EXPECT_EQ(wishes_, (std::vector<MountRequest>{{MountType::kFuseBlock, 0, 0, 0}}));
  server.leave();
}

TEST_F(CommandSessionTest, AFailedMountIsNotTriedAgain) {
  mount_error_ = EBUSY;
  HostileServer server = start();
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), EBUSY);
  EXPECT_EQ(server.ask(doit()), EINVAL);
  server.send(encode(Command(protocol::Goodbye{3})));
  EXPECT_EQ(end_session(), 3U);
  EXPECT_FALSE(mounted_);
}

TEST_F(CommandSessionTest, SourceAndPlaceAreTheUsers) {
  HostileServer server = start();
  for (const std::string& other :
       {std::string("/dev/sda"), source_->path() + "/", image_, std::string("/mnt/x")})
    EXPECT_EQ(server.ask(protocol::SetSource{other}), EACCES) << other;
  for (const char* const other : {"/", "/etc", "/mnt", "/mnt/x/", "/mnt/./x", "mnt/x"})
    EXPECT_EQ(server.ask(protocol::SetMountPoint{other}), EACCES) << other;
  EXPECT_EQ(server.ask(protocol::SetMountPoint{"/mnt/x", protocol::MountPointType::kRegularFile}), EISDIR);
  EXPECT_EQ(server.ask(doit()), EINVAL) << "none of these counted";
  server.leave();
}

TEST_F(CommandSessionTest, OurMountsAreBlockDeviceMounts) {
  HostileServer server = start();
  EXPECT_EQ(server.ask(protocol::OpenFsContext{.fuseblk = false}), EPERM);
  server.leave();
}

TEST_F(CommandSessionTest, AnotherServiceMayChooseTheType) {
  HostileServer server = start(Trust::kPlainService);
  EXPECT_EQ(server.ask(protocol::OpenFsContext{.fuseblk = false}), 0);
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), 0);
  EXPECT_EQ(wishes_, (std::vector<MountRequest>{{MountType::kFuse, 0, 0, 0}}));
  server.leave();
}

TEST_F(CommandSessionTest, OptionsComeFromAList) {
  HostileServer server = start();
  for (const char* const wrong : {"fd=5",
                                  "user_id=1000",
                                  "group_id=0",
                                  "rootmode=100000",
                                  "subtype=ext4",
                                  "source=/dev/sda",
                                  "allow_other,suid",
                                  "dev",
                                  "exec",
                                  "blksize=0",
                                  "blksize=3000",
                                  "blksize=1048576",
                                  "blksize=4096x",
                                  "blksize=",
                                  "blksize",
                                  "max_read=1",
                                  "max_read=99999999999",
                                  "root_nodeid=2",
                                  "context=x",
                                  "ro,frob",
                                  " ro"}) {
    EXPECT_EQ(server.ask(options(wrong)), EINVAL) << wrong;
  }
  EXPECT_EQ(server.ask(options("rw,nosuid,,noatime,noexec")), 0) << "a refused list leaves no trace";
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  EXPECT_EQ(server.ask(doit()), 0);
  EXPECT_EQ(wishes_, (std::vector<MountRequest>{{MountType::kFuseBlock, MS_NOSUID | MS_NOEXEC, 0, 0}}));
  server.leave();
}

TEST_F(CommandSessionTest, TheDeviceGetsTheBlockSizeThatIsAskedFor) {
  for (const Trust trust : {Trust::kOwnServer, Trust::kPlainService}) {
    // The next one claims it by itself.
    if (trust == Trust::kPlainService) source_->drop_claim();
    HostileServer server = start(trust);
    for (const int size : {1024, 4096, 512}) {
      ASSERT_EQ(server.ask(device(O_RDWR | O_EXCL, static_cast<std::uint32_t>(size))), 0);
      int now = 0;
      ASSERT_EQ(::ioctl(server.fd(), BLKBSZGET, &now), 0);
      EXPECT_EQ(now, size);
    }
    server.leave();
    [[maybe_unused]] const auto ended = end_session();
  }
}

TEST_F(CommandSessionTest, FlagsOnlyNarrow) {
  HostileServer server = start(Trust::kOwnServer, MS_RDONLY | MS_NODEV | MS_STRICTATIME);
  EXPECT_EQ(server.ask(name()), 0);
  EXPECT_EQ(server.ask(place()), 0);
  for (const unsigned long wrong :
       {MS_BIND | 0UL, MS_MOVE | 0UL, MS_REMOUNT | 0UL, MS_SHARED | 0UL, MS_MANDLOCK | 0UL, 1UL << 31})
    EXPECT_EQ(server.ask(doit(wrong)), EINVAL) << wrong;
  EXPECT_EQ(server.ask(doit(kLazyTime)), 0) << "nothing of the user's flags is named, and all of it stays";
  EXPECT_EQ(
      wishes_,
      (std::vector<MountRequest>{{MountType::kFuseBlock, MS_RDONLY | MS_NODEV | MS_STRICTATIME, 0, 0}}));
  server.leave();
}

TEST_F(CommandSessionTest, TheDeviceIsTheDevice) {
  HostileServer server = start();
  EXPECT_EQ(server.ask(device(O_RDWR | O_EXCL)), 0);
  struct stat status = {};
  ASSERT_EQ(::fstat(server.fd(), &status), 0);
  EXPECT_EQ(status.st_rdev, source_->device_number());
  EXPECT_EQ(::fcntl(server.fd(), F_GETFL) & O_ACCMODE, O_RDWR);
  EXPECT_EQ(server.ask(device(O_RDWR | O_CREAT)), EACCES);
  EXPECT_EQ(server.ask(device(O_RDWR | O_TRUNC)), EACCES);
  EXPECT_EQ(server.ask(device(O_RDWR, 123)), EINVAL);
  EXPECT_EQ(server.ask(file("/etc/shadow")), EACCES);
  EXPECT_EQ(server.ask(file(image_)), EACCES);
  EXPECT_EQ(server.ask(protocol::OpenBlockDevice{.path = "/dev/loop-control", .open_flags = O_RDWR}), EACCES);
  server.leave();
}

TEST_F(ReadOnlyCommandSessionTest, NothingWritableComesOfAReadOnlyMount) {
  HostileServer server = start();
  EXPECT_EQ(server.ask(device(O_RDWR)), EROFS);
  EXPECT_EQ(server.ask(device(O_RDONLY)), 0);
  EXPECT_EQ(::fcntl(server.fd(), F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_LT(::pwrite(server.fd(), "x", 1, 0), 0);
  server.leave();
}

TEST_F(CommandSessionTest, TheLogCanOnlyGrow) {
  auto log = open_log_file(directory_.path("log"));
  ASSERT_TRUE(log);
  log_ = std::move(*log);
  HostileServer server = start();
  ASSERT_EQ(server.ask(file("fuse4fs:journal")), 0);
  EXPECT_EQ(::write(server.fd(), "line\n", 5), 5);
  char byte = 0;
  EXPECT_LT(::pread(server.fd(), &byte, 1, 0), 0);
  EXPECT_NE(::fcntl(server.fd(), F_GETFL) & O_APPEND, 0);
  EXPECT_EQ(server.ask(file("fuse4fs:clone")), EOPNOTSUPP) << "nothing is mounted";
  EXPECT_EQ(server.ask(file("fuse4fs:notify")), EOPNOTSUPP);
  EXPECT_EQ(server.ask(file("fuse4fs:psi")), EOPNOTSUPP);
  server.leave();
}

// A socket that somebody listens on, by the name of a file; root's, as systemd's are.
UniqueFd listening_datagrams(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  EXPECT_TRUE(set_address(path, address));
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return socket;
}

TEST_F(CommandSessionTest, NotifyAndJournalAreSocketsThatReachNothingElse) {
  notify_socket_ = directory_.path("notify");
  journal_socket_ = directory_.path("journald");
  const UniqueFd notify = listening_datagrams(notify_socket_);
  const UniqueFd journal = listening_datagrams(journal_socket_);
  // What a server that was taken over would like to talk to.
  const UniqueFd abstract(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un elsewhere = {};
  elsewhere.sun_family = AF_UNIX;
  const auto name = fmt::format("fuse4fs-test-{}", ::getpid());
  name.copy(elsewhere.sun_path + 1, name.size());
  ASSERT_EQ(::bind(abstract.get(), reinterpret_cast<sockaddr*>(&elsewhere), sizeof elsewhere), 0);
  const UniqueFd ordinary(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::sendto(ordinary.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&elsewhere), sizeof elsewhere), 1)
      << "it can be reached from here";

  HostileServer server = start();
  const auto check = [&](const char* reserved, int receiver) {
    ASSERT_EQ(server.ask(file(reserved)), 0) << reserved;
    struct stat status = {};
    ASSERT_EQ(::fstat(server.fd(), &status), 0);
    EXPECT_TRUE(S_ISSOCK(status.st_mode));
    EXPECT_NE(::fcntl(server.fd(), F_GETFL) & O_NONBLOCK, 0);
    ASSERT_EQ(::send(server.fd(), reserved, std::strlen(reserved), MSG_NOSIGNAL),
              ssize_t(std::strlen(reserved)));
    char text[64] = {};
    EXPECT_EQ(::recv(receiver, text, sizeof text, MSG_DONTWAIT), ssize_t(std::strlen(reserved)));
    EXPECT_STREQ(text, reserved);
    EXPECT_EQ(::sendto(server.fd(), "x", 1, 0, reinterpret_cast<sockaddr*>(&elsewhere), sizeof elsewhere),
              -1);
    EXPECT_EQ(errno, ECONNREFUSED);
    pollfd shut{.fd = server.fd(), .events = POLLRDHUP, .revents = 0};
    EXPECT_EQ(::poll(&shut, 1, 0), 1) << "shut for reading";
    for (int further = 1; further < 4; ++further) EXPECT_EQ(server.ask(file(reserved)), 0);
    EXPECT_EQ(server.ask(file(reserved)), EMFILE);
  };
  check("fuse4fs:notify", notify.get());
  check("fuse4fs:journal", journal.get());
  server.leave();
}

TEST_F(CommandSessionTest, PressureFilesComeOneByOne) {
  if (!watch_memory_pressure(kMachinePressure)) GTEST_SKIP() << "this kernel tells no memory pressure";
  pressure_files_ = {directory_.path("absent"), kMachinePressure, "", kMachinePressure};
  HostileServer server = start();
  for (int file_number = 0; file_number < 2; ++file_number) {
    // Whatever flags it asks with.
    ASSERT_EQ(server.ask(protocol::OpenFile{.path = "fuse4fs:psi", .open_flags = O_RDWR}), 0);
    EXPECT_EQ(::fcntl(server.fd(), F_GETFL) & O_ACCMODE, O_WRONLY);
  }
  EXPECT_EQ(server.ask(file("fuse4fs:psi")), EOPNOTSUPP);
  server.leave();
}

TEST_F(CommandSessionTest, TheJournalsDeviceIsHandedOverWithItsClaim) {
  const std::string image = directory_.make_image("journal");
  auto journal = Source::open(image, {.claim = Claim::kHandedOver});
  ASSERT_TRUE(journal) << journal.error().message;
  journal_ = std::make_unique<Source>(std::move(*journal));
  const std::string path = journal_->path();
  const auto claim = [&] { return UniqueFd(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC)); };
  HostileServer server = start();
  const auto ask = [&](int flags, std::uint32_t block_size = 0) {
    return server.ask(protocol::OpenBlockDevice{
        .path = path, .open_flags = static_cast<std::uint32_t>(flags), .block_size = block_size});
  };
  EXPECT_EQ(ask(O_RDWR, 1024), EINVAL);
  EXPECT_EQ(ask(O_RDWR | O_CREAT), EACCES);
  EXPECT_EQ(ask(O_RDWR | O_DIRECT), 0);
  EXPECT_NE(::fcntl(server.fd(), F_GETFL) & O_DIRECT, 0);
  ASSERT_EQ(ask(O_RDWR), 0);
  EXPECT_EQ(::fcntl(server.fd(), F_GETFL) & (O_ACCMODE | O_DIRECT), O_RDWR);
  // The helper goes; what the server got is the claim.
  const UniqueFd held(::dup(server.fd()));
  server.leave();
  EXPECT_FALSE(end_session());
  journal_.reset();
  EXPECT_FALSE(claim());
  EXPECT_EQ(errno, EBUSY);
}

TEST_F(CommandSessionTest, AFloodEnds) {
  HostileServer server = start();
  int answers = 0;
  while (server.ask(protocol::OpenFile{.path = "/etc/shadow", .quiet = true}) == EACCES) ++answers;
  EXPECT_EQ(answers, 1000);
  EXPECT_EQ(end_session(), fail(E2BIG));
}

TEST_F(CommandSessionTest, AnUnknownPacketEndsTheSession) {
  for (const auto& bytes :
       {Bytes{std::byte{'E'}, std::byte{'V'}, std::byte{'I'}, std::byte{'L'}}, Bytes{std::byte{0}},
        encode(protocol::SimpleReply{0}), Bytes(8, std::byte{0xff})}) {
    HostileServer server = start();
    EXPECT_EQ(server.ask(name()), 0);
    server.send(bytes);
    EXPECT_FALSE(end_session());
    EXPECT_EQ(server.ask(place()), -1);
    EXPECT_FALSE(mounted_);
  }
}

TEST_F(CommandSessionTest, TheEndMayComeAtAnyStep) {
  const std::vector<Command> way = {device(O_RDWR), type(), name(), place(), options("allow_other"), doit()};
  for (std::size_t steps = 0; steps <= way.size(); ++steps) {
    HostileServer server = start();
    for (std::size_t i = 0; i < steps; ++i) EXPECT_EQ(server.ask(way[i]), 0);
    server.leave();
    EXPECT_EQ(end_session(), fail(ECONNRESET));
    EXPECT_EQ(mounted_, steps == way.size());
  }
}

TEST(LogFile, IsARegularFileAndNoLink) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::symlink("/etc/passwd", directory.path("link").c_str()), 0);
  ASSERT_EQ(::mkfifo(directory.path("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(open_log_file(directory.path("link")));
  EXPECT_FALSE(open_log_file(directory.path("pipe")));
  EXPECT_FALSE(open_log_file("/dev/null"));
  EXPECT_FALSE(open_log_file(directory.path("absent/log")));
  ASSERT_TRUE(open_log_file(directory.path("log")));
  struct stat status = {};
  ASSERT_EQ(::stat(directory.path("log").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

}  // namespace
}  // namespace fuse4fs::helper
