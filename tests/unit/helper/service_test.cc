// SPDX-License-Identifier: GPL-2.0-or-later
// A service that is not ours, reached through its socket: this test's own thread, as libfuse would write it.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "helper/command_line.h"
#include "helper/fs_context.h"
#include "helper/mount_command.h"
#include "helper/mount_table.h"
#include "helper/service_socket.h"
#include "protocol/arguments.h"
#include "protocol/channel.h"
#include "tests/unit/helper/fake_server.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryDirectory;

UniqueFd bound_socket(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::abort();
  return socket;
}

TEST(ServiceSocket, AbsentRefusedAndReached) {
  const TemporaryDirectory directory;
  EXPECT_EQ(connect_to_service(directory.path("absent")).error(), Errno(ENOENT));
  std::ofstream(directory.path("file")).close();
  EXPECT_EQ(connect_to_service(directory.path("file")).error(), Errno(ENOENT));
  const UniqueFd socket = bound_socket(directory.path("service"));
  EXPECT_EQ(connect_to_service(directory.path("service")).error(), Errno(ECONNREFUSED));
  ASSERT_EQ(::listen(socket.get(), 1), 0);
  EXPECT_TRUE(connect_to_service(directory.path("service")));
  EXPECT_EQ(connect_to_service(directory.path(std::string(200, 'x'))).error(), Errno(ENAMETOOLONG));
}

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_FUSE();
    // Not in kServiceDirectory: the machine's own services are there.
    socket_path_ = directory_.path("service");
    listening_ = bound_socket(socket_path_);
    ASSERT_EQ(::listen(listening_.get(), 1), 0);
    image_ = directory_.make_image("image");
    where_ = fs::canonical(directory_.make_directory("mnt"));
  }
  void TearDown() override {
    if (where_.empty()) return;
    ::umount2(where_.c_str(), MNT_DETACH);
    if (service_.joinable()) service_.join();
    EXPECT_EQ(testing::loop_devices_left(image_), 0);
  }

  // `serve`: what the service does after the greeting.
  template <class Serve>
  ExitStatus mount(const std::string& options, Serve serve) {
    service_ = std::thread([this, serve] {
      auto channel =
          protocol::Channel::adopt(UniqueFd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
      ASSERT_TRUE(channel);
      protocol::ServerEnd end(std::move(*channel));
      auto greeting = end.greet();
      ASSERT_TRUE(greeting);
      EXPECT_TRUE(greeting->hello.may_allow_other);
      const auto arguments = protocol::read_arguments(greeting->arguments.get());
      ASSERT_TRUE(arguments);
      serve(end, *greeting, *arguments);
    });
    const auto line = parse_command_line(
        {image_, where_, "-t", "fuse." + type_, "-o", fmt::format("{},service={}", options, socket_path_)});
    EXPECT_TRUE(line);
    return line ? run(*line) : kInternalBug;
  }

  std::string type_ = fmt::format("helper-test-{}", ::getpid());
  std::string socket_path_;
  UniqueFd listening_;
  TemporaryDirectory directory_;
  std::string image_;
  std::string where_;
  std::thread service_;
};

TEST_F(ServiceTest, AForeignServiceTakesItsOwnClaimAndMounts) {
  const ExitStatus status = mount("nosuid,frob=1", [this](auto& end, auto& greeting, const auto& arguments) {
    EXPECT_EQ(arguments.at(0), type_);
    EXPECT_EQ(arguments.back(), "nosuid,frob=1");
    const std::string source = arguments.at(1);
    EXPECT_TRUE(end.open(protocol::OpenBlockDevice{.path = source, .open_flags = O_RDWR | O_EXCL}));
    EXPECT_EQ(end.open(protocol::OpenFile{.path = "/etc/passwd", .quiet = true}).error(), Errno(EACCES));
    EXPECT_TRUE(end.command(protocol::OpenFsContext{.fuseblk = false}));
    EXPECT_TRUE(end.command(protocol::SetSource{source}));
    EXPECT_TRUE(end.command(protocol::SetMountPoint{arguments.at(2)}));
    EXPECT_TRUE(end.command(protocol::Mount{MS_NODEV}));
    testing::serve_fuse(greeting.fuse_device.get(), testing::Until::kInitAnswered);
    EXPECT_TRUE(end.say_goodbye(0));
    testing::serve_fuse(greeting.fuse_device.get(), testing::Until::kEnd);
  });
  EXPECT_EQ(status, kSuccess);
  const MountEntry entry = find_mount(where_).value_or(MountEntry{});
  EXPECT_EQ(entry.type, "fuse." + type_);
  EXPECT_EQ(entry.flags, unsigned{MS_NOSUID | MS_NODEV | MS_RELATIME});
}

TEST_F(ServiceTest, AServiceThatWouldLikeIomapAndItsRootNode) {
  // As libfuse's drafts write it: what this kernel lacks is left out.
  const ExitStatus status = mount("rw", [](auto& end, auto& greeting, const auto& arguments) {
    EXPECT_TRUE(end.command(protocol::RequestIomap{protocol::IomapNeed::kOptional}));
    EXPECT_TRUE(
        end.open(protocol::OpenFile{.path = arguments.at(1), .open_flags = O_RDWR, .try_loop = true}));
    EXPECT_TRUE(end.command(protocol::OpenFsContext{.fuseblk = false}));
    EXPECT_TRUE(end.command(protocol::SetSource{arguments.at(1)}));
    EXPECT_TRUE(end.command(protocol::SetMountPoint{arguments.at(2)}));
    if (takes_option("fuse", "root_nodeid", "2")) {
      EXPECT_TRUE(end.command(protocol::SetMountOptions{"root_nodeid=1"}));
    } else {
      EXPECT_EQ(end.command(protocol::SetMountOptions{"root_nodeid=2"}), fail(EINVAL));
      EXPECT_TRUE(end.command(protocol::SetMountOptions{"allow_other"}));
    }
    EXPECT_TRUE(end.command(protocol::Mount{0}));
    testing::serve_fuse(greeting.fuse_device.get(), testing::Until::kInitAnswered);
    EXPECT_TRUE(end.say_goodbye(0));
    testing::serve_fuse(greeting.fuse_device.get(), testing::Until::kEnd);
  });
  EXPECT_EQ(status, kSuccess);
  EXPECT_TRUE(find_mount(where_));
}

TEST_F(ServiceTest, AServiceThatNeedsIomapGetsNoneWhereTheUserRefusesIt) {
  const ExitStatus status = mount("noiomap", [](auto& end, auto&, const auto& arguments) {
    EXPECT_EQ(arguments.size(), 3U) << "the word is the helper's";
    EXPECT_EQ(end.command(protocol::RequestIomap{protocol::IomapNeed::kMandatory}), fail(EPERM));
    EXPECT_FALSE(end.command(protocol::OpenFsContext{.fuseblk = false}));
    EXPECT_TRUE(end.broken()) << "the helper is gone";
  });
  EXPECT_EQ(status, kMountFailure);
  EXPECT_FALSE(find_mount(where_));
}

TEST_F(ServiceTest, ATrustedServiceMayOpenItsOwnPaths) {
  const ExitStatus status = mount("trusted-service", [](auto& end, auto&, const auto&) {
    EXPECT_TRUE(end.open(protocol::OpenFile{.path = "/etc/passwd"}));
    EXPECT_EQ(end.open(protocol::OpenBlockDevice{.path = "/etc/passwd", .quiet = true}).error(),
              Errno(ENOTBLK));
    EXPECT_TRUE(end.say_goodbye(1));
  });
  EXPECT_EQ(status, kMountFailure);
  EXPECT_FALSE(find_mount(where_));
}

TEST_F(ServiceTest, AServiceThatVanishesLeavesNothing) {
  const ExitStatus status = mount("rw", [](auto& end, auto&, const auto& arguments) {
    EXPECT_TRUE(end.command(protocol::OpenFsContext{.fuseblk = true}));
    EXPECT_TRUE(end.command(protocol::SetSource{arguments.at(1)}));
    EXPECT_TRUE(end.command(protocol::SetMountPoint{arguments.at(2)}));
    EXPECT_TRUE(end.command(protocol::Mount{0}));
  });
  EXPECT_EQ(status, kMountFailure);
  EXPECT_FALSE(find_mount(where_));
}

}  // namespace
}  // namespace fuse4fs::helper
