// SPDX-License-Identifier: GPL-2.0-or-later
// A dispatcher over a mock of the engine. A socketpair plays the kernel's end of /dev/fuse.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "server/fuse/dispatcher.h"
#include "server/fuse/kernel_abi.h"
#include "tests/unit/fuse/mock_file_system.h"

namespace fuse4fs::fuse {

struct Answer {
  fuse_out_header header{};
  std::vector<std::byte> payload;
};

class DispatcherTest : public ::testing::Test {
 protected:
  DispatcherTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    kernel_ = UniqueFd(ends[0]);
    device_ = UniqueFd(ends[1]);
    ON_CALL(fs_, block_size).WillByDefault(::testing::Return(4096));
    ON_CALL(fs_, time_granularity).WillByDefault(::testing::Return(1));
    dispatcher_ = *Dispatcher::create(fs_);
  }

  // `payload` is what follows the header: the request's struct, names, data.
  void send_bytes(std::uint32_t opcode, std::uint64_t node, std::string_view payload) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + payload.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    header.uid = caller_;
    std::string request(reinterpret_cast<const char*>(&header), sizeof header);
    request += payload;
    dispatcher_->dispatch(device_.get(), std::as_writable_bytes(std::span(request)));
  }
  template <class In>
  void send(std::uint32_t opcode, std::uint64_t node, const In& in, std::string_view tail = {}) {
    send_bytes(opcode, node, std::string(reinterpret_cast<const char*>(&in), sizeof in) + std::string(tail));
  }

  std::optional<Answer> answer() {
    std::vector<std::byte> bytes(1 << 16);
    const ssize_t got = ::recv(kernel_.get(), bytes.data(), bytes.size(), 0);
    if (got < static_cast<ssize_t>(sizeof(fuse_out_header))) return std::nullopt;
    Answer answer;
    std::memcpy(&answer.header, bytes.data(), sizeof answer.header);
    answer.payload.assign(bytes.begin() + sizeof answer.header, bytes.begin() + got);
    EXPECT_EQ(answer.header.len, static_cast<std::uint32_t>(got));
    EXPECT_EQ(answer.header.unique, unique_);
    return answer;
  }
  int error_answered() {
    const auto got = answer();
    return got ? -got->header.error : -1;
  }
  template <class Out>
  Out structure_answered() {
    const auto got = answer();
    Out out{};
    EXPECT_TRUE(got && got->header.error == 0 && got->payload.size() == sizeof out);
    if (got && got->payload.size() == sizeof out) std::memcpy(&out, got->payload.data(), sizeof out);
    return out;
  }

  // What an ioctl answers: the errno, or what it gives.
  Answer ioctl(unsigned command, std::string_view in, std::uint32_t out_room, uid_t caller = 0) {
    fuse_ioctl_in body{};
    body.cmd = command;
    body.in_size = static_cast<std::uint32_t>(in.size());
    body.out_size = out_room;
    caller_ = caller;
    send(FUSE_IOCTL, 12, body, in);
    caller_ = 0;
    auto got = answer().value_or(Answer{});
    if (got.header.error == 0 && got.payload.size() >= sizeof(fuse_ioctl_out))
      got.payload.erase(got.payload.begin(), got.payload.begin() + sizeof(fuse_ioctl_out));
    return got;
  }

  fuse_init_out init(std::uint64_t offered, std::uint32_t minor = 45) {
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = minor;
    in.max_readahead = 128 << 10;
    in.flags = static_cast<std::uint32_t>(offered);
    in.flags2 = static_cast<std::uint32_t>(offered >> 32);
    send(FUSE_INIT, 0, in);
    return structure_answered<fuse_init_out>();
  }
  static constexpr std::uint64_t kEverything = 0x0000'07ff'7fff'ffff;

  ::testing::NiceMock<MockFileSystem> fs_;
  UniqueFd kernel_, device_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::uint64_t unique_ = 0;
  uid_t caller_ = 0;
};

}  // namespace fuse4fs::fuse
