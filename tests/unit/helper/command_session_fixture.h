// SPDX-License-Identifier: GPL-2.0-or-later
// A server that means harm, over a real socket pair; the mount itself is a recorded wish (fuse_mount_test.cc
// does it).
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "helper/command_session.h"
#include "protocol/channel.h"
#include "tests/unit/helper/support.h"

namespace fuse4fs::helper::testing {

using protocol::Bytes;
using protocol::Channel;
using protocol::Command;
using protocol::Descriptors;

struct SocketPair {
  SocketPair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    helper.reset(ends[0]);
    server.reset(ends[1]);
  }
  UniqueFd helper;
  UniqueFd server;
};

// The server's side, as the test's main thread drives it; raw, so that it can say what no honest server
// would.
class HostileServer {
 public:
  explicit HostileServer(UniqueFd socket) : channel_(*Channel::adopt(std::move(socket))) {}

  // Sends, and returns the error in the helper's answer; -1: no answer, the helper has ended the session.
  int ask(const Command& command) {
    fd_.reset();
    if (!channel_.send(encode(command))) return -1;
    auto packet = channel_.receive(Descriptors::kAtMostOne, std::chrono::seconds(10));
    if (!packet) return -1;
    fd_ = std::move(packet->fd);
    if (std::holds_alternative<protocol::OpenFile>(command) ||
        std::holds_alternative<protocol::OpenBlockDevice>(command)) {
      const auto reply = protocol::decode_file_reply(packet->bytes);
      if (!reply) return -2;
      EXPECT_EQ(reply->error == 0, static_cast<bool>(fd_)) << "a descriptor exactly with success";
      return reply->error;
    }
    EXPECT_FALSE(fd_);
    const auto reply = protocol::decode_simple_reply(packet->bytes);
    return reply ? reply->error : -2;
  }
  void send(const Bytes& bytes) { [[maybe_unused]] const auto sent = channel_.send(bytes); }
  void leave() { channel_.close(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Channel channel_;
  UniqueFd fd_;
};

class CommandSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    REQUIRE_FUSE();
    image_ = directory_.make_image("image");
    auto source = Source::open(image_, {.access = access_});
    ASSERT_TRUE(source) << source.error().message;
    source_ = std::make_unique<Source>(std::move(*source));
  }
  void TearDown() override {
    [[maybe_unused]] const auto result = end_session();
    source_.reset();
    journal_.reset();
    if (!image_.empty()) {
      EXPECT_EQ(testing::loop_devices_left(image_), 0);
    }
  }

  HostileServer start(Trust trust = Trust::kOwnServer, unsigned long flags = 0,
                      Outcome<void> iomap = fail(Errno(ENOTTY), "none in this kernel")) {
    SocketPair sockets;
    thread_ = std::thread([this, trust, flags, iomap, socket = std::move(sockets.helper)]() mutable {
      FileOpener opener(OpenPolicy(trust, source_->path(), source_->access(), named_journal()), *source_,
                        {.fuse_device = fuse_.get(),
                         .log_file = std::move(log_),
                         .journal = journal_.get(),
                         .notify_socket = notify_socket_,
                         .journal_socket = journal_socket_,
                         .pressure_files = pressure_files_});
      CommandSession session({.trust = trust,
                              .source = source_->path(),
                              .mount_point = "/mnt/x",
                              .flags = flags,
                              .iomap = iomap,
                              .kernel_takes =
                                  [this](const char* key, const std::string& value) {
                                    return kernel_options_.contains(key + ("=" + value));
                                  }},
                             opener, [this](const MountRequest& request) -> Outcome<void> {
                               wishes_.push_back(request);
                               if (mount_error_ != 0) return fail(Errno(mount_error_), "no");
                               return {};
                             });
      protocol::HelperEnd end(*Channel::adopt(std::move(socket)));
      result_ = session.run(end, {});
      mounted_ = session.mounted();
      failure_ = session.failure();
    });
    return HostileServer(std::move(sockets.server));
  }
  Result<std::uint32_t> end_session() {
    if (thread_.joinable()) thread_.join();
    return result_;
  }
  [[nodiscard]] std::optional<NamedDevice> named_journal() const {
    if (!journal_) return std::nullopt;
    return NamedDevice{.path = journal_->path(), .access = journal_->access()};
  }
  Command name() { return protocol::SetSource{source_->path()}; }
  static Command place() { return protocol::SetMountPoint{"/mnt/x", protocol::MountPointType::kDirectory}; }
  static Command type() { return protocol::OpenFsContext{.fuseblk = true}; }
  static Command doit(unsigned long flags = 0) { return protocol::Mount{static_cast<std::uint32_t>(flags)}; }
  static Command options(const std::string& text) { return protocol::SetMountOptions{text}; }
  Command device(int flags, std::uint32_t block_size = 0) {
    return protocol::OpenBlockDevice{
        .path = source_->path(), .open_flags = static_cast<std::uint32_t>(flags), .block_size = block_size};
  }
  static Command file(const std::string& path) { return protocol::OpenFile{.path = path}; }

  TemporaryDirectory directory_;
  Access access_ = Access::kReadWrite;
  std::string image_;
  std::unique_ptr<Source> source_;  // made by SetUp()
  UniqueFd fuse_{::open("/dev/fuse", O_RDWR | O_CLOEXEC)};
  UniqueFd log_;
  std::unique_ptr<Source> journal_;
  std::string notify_socket_;
  std::vector<std::string> pressure_files_;
  std::string journal_socket_ = directory_.path("absent");
  int mount_error_ = 0;
  std::vector<MountRequest> wishes_;
  std::set<std::string> kernel_options_;
  std::optional<Failure> failure_;
  Result<std::uint32_t> result_{0};
  bool mounted_ = false;
  std::thread thread_;
};

}  // namespace fuse4fs::helper::testing
