// SPDX-License-Identifier: GPL-2.0-or-later
// For the tests of protocol/ and server/service/: packets written by hand, socket pairs, and a count of
// descriptors.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <charconv>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "protocol/channel.h"
#include "protocol/descriptor_packet.h"
#include "protocol/messages.h"

namespace fuse4fs::protocol::testing {

// "53414654 'abc' 00": pairs of hex digits, text between single quotes, blanks where they help the eye.
inline Bytes bytes_of(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') continue;
    if (text[i] == '\'') {
      while (text[++i] != '\'') bytes.push_back(static_cast<std::byte>(text[i]));
      continue;
    }
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data() + i, text.data() + i + 2, value, 16);
    if (error != std::errc() || end != text.data() + i + 2) ADD_FAILURE() << "not hex: " << text.substr(i);
    bytes.push_back(static_cast<std::byte>(value));
    ++i;
  }
  return bytes;
}

// How many descriptors this process has open.
inline int open_descriptors() {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc/self/fd"), ::closedir);
  int count = 0;
  while (::readdir(directory.get()) != nullptr) ++count;
  return count;
}

// Fails the test if descriptors were gained or lost while it lived.
class LeakCheck {
 public:
  LeakCheck() = default;
  LeakCheck(const LeakCheck&) = delete;
  LeakCheck& operator=(const LeakCheck&) = delete;
  ~LeakCheck() { EXPECT_EQ(open_descriptors(), before_) << "descriptors leaked or closed twice"; }

 private:
  int before_ = open_descriptors();
};

struct SocketPair {
  explicit SocketPair(int type = SOCK_SEQPACKET) {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()) != 0) ADD_FAILURE() << "socketpair";
    one = UniqueFd(fds[0]);
    other = UniqueFd(fds[1]);
  }
  UniqueFd one;
  UniqueFd other;
};

inline Channel channel_of(UniqueFd socket) {
  auto channel = Channel::adopt(std::move(socket));
  EXPECT_TRUE(channel.has_value());
  return *std::move(channel);
}

inline UniqueFd open_null() { return UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)); }

// Sends anything at all, with any number of descriptors: what a hostile peer would do.
inline void send_raw(int socket, ByteView packet, std::span<const int> fds = {}) {
  EXPECT_EQ(send_with_descriptors(socket, packet, fds, MSG_NOSIGNAL), static_cast<ssize_t>(packet.size()));
}

inline Bytes receive_raw(int socket) {
  Bytes bytes(kMaxPacket);
  const ssize_t size = ::recv(socket, bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return bytes;
}

}  // namespace fuse4fs::protocol::testing
