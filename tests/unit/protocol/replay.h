// SPDX-License-Identifier: GPL-2.0-or-later
// Plays one side of a transcript over a socket, and holds every packet of the other side against it.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "tests/unit/protocol/support.h"
#include "tests/unit/protocol/transcripts.h"

namespace fuse4fs::protocol::testing {

class Replay {
 public:
  // `device`: what the transcript's device is called in this test. It must be as long: the arguments count
  // bytes.
  Replay(UniqueFd socket, const std::vector<Line>& lines, Speaker played, std::string device)
      : socket_(std::move(socket)), lines_(lines), played_(played), device_(std::move(device)) {
    EXPECT_EQ(device_.size(), kDeviceInTranscripts.size());
    // A conversation that stands still is a failure, not a hang.
    constexpr timeval kPatience{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    thread_ = std::jthread([this] { play(); });
  }

  // Waits for the end; whether all of it was said.
  bool finish() {
    if (thread_.joinable()) thread_.join();
    return complete_;
  }

 private:
  struct Heard {
    Bytes bytes;
    UniqueFd descriptor;
  };

  Bytes bytes_with_device(std::string_view text) const {
    std::string own(text);
    for (std::size_t at = 0; (at = own.find(kDeviceInTranscripts, at)) != std::string::npos;
         at += device_.size())
      own.replace(at, kDeviceInTranscripts.size(), device_);
    return bytes_of(own);
  }

  Heard hear() const {
    Heard heard{.bytes = Bytes(kMaxPacket), .descriptor = {}};
    iovec data{.iov_base = heard.bytes.data(), .iov_len = heard.bytes.size()};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    heard.bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
      heard.descriptor = UniqueFd(descriptor);
    }
    return heard;
  }

  void say(const Line& line) const {
    if (line.attachment.empty()) return send_raw(socket_.get(), bytes_with_device(line.packet));
    UniqueFd descriptor = open_null();
    if (line.attachment != "any") {
      descriptor = UniqueFd(::memfd_create("arguments", MFD_CLOEXEC));
      const Bytes contents = bytes_with_device(line.attachment);
      EXPECT_EQ(::write(descriptor.get(), contents.data(), contents.size()),
                static_cast<ssize_t>(contents.size()));
    }
    send_raw(socket_.get(), bytes_with_device(line.packet), std::array{descriptor.get()});
  }

  bool is_as_written(const Heard& heard, const Line& line) const {
    EXPECT_EQ(heard.bytes, bytes_with_device(line.packet)) << line.packet;
    EXPECT_EQ(static_cast<bool>(heard.descriptor), !line.attachment.empty()) << line.packet;
    if (!line.attachment.empty() && line.attachment != "any") {
      Bytes contents(kMaxPacket);
      const ssize_t size = ::pread(heard.descriptor.get(), contents.data(), contents.size(), 0);
      contents.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
      EXPECT_EQ(contents, bytes_with_device(line.attachment));
    }
    return !::testing::Test::HasFailure();
  }

  void play() {
    for (const Line& line : lines_) {
      if (line.speaker == played_) {
        say(line);
      } else if (!is_as_written(hear(), line)) {
        socket_.reset();
        return;
      }
    }
    complete_ = true;
  }

  UniqueFd socket_;
  const std::vector<Line>& lines_;
  Speaker played_;
  std::string device_;
  bool complete_ = false;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace fuse4fs::protocol::testing
