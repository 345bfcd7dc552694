// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>

#include "protocol/descriptor_packet.h"

namespace fuse4fs::protocol {
namespace {

// As in the kernel's headers since 6.16.
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

constexpr std::size_t kLargestOpenCommand = 20 + kMaxPathLength + 1;
constexpr std::size_t kRoomForSender = CMSG_SPACE(sizeof(ucred));

using Clock = std::chrono::steady_clock;

Result<int> socket_option(int socket, int option) {
  int value = 0;
  socklen_t size = sizeof value;
  if (::getsockopt(socket, SOL_SOCKET, option, &value, &size) != 0) return fail_last();
  return value;
}

Result<void> wait_readable(int socket, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting{.fd = socket, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::clamp<long long>(left, 0, INT_MAX)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail_last();
    if (ready == 0 && left <= 0) return fail(ETIMEDOUT);
  }
}

// The other end is gone: one number for both ways in which the kernel says so.
std::unexpected<Errno> fail_transfer() {
  return errno == EPIPE || errno == ENOTCONN ? fail(ECONNRESET) : fail_last();
}

// Owns whatever descriptors came, before anything is judged.
struct ControlData {
  std::vector<UniqueFd> descriptors;
  std::optional<pid_t> sender;
  bool foreign = false;
};

ControlData take_control_data(msghdr& message) {
  ControlData data;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS &&
        header->cmsg_len == CMSG_LEN(sizeof(ucred))) {
      ucred credentials = {};
      std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      data.sender = credentials.pid;
      continue;
    }
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      data.foreign = true;
      continue;
    }
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      data.descriptors.emplace_back(fd);
    }
  }
  return data;
}

}  // namespace

Result<Channel> Channel::adopt(UniqueFd socket) {
  ASSIGN_OR_RETURN(const int family, socket_option(socket.get(), SO_DOMAIN));
  if (family != AF_UNIX) return fail(EAFNOSUPPORT);
  ASSIGN_OR_RETURN(const int type, socket_option(socket.get(), SO_TYPE));
  if (type != SOCK_SEQPACKET) return fail(EPROTOTYPE);
  ASSIGN_OR_RETURN(const int buffer, socket_option(socket.get(), SO_SNDBUF));
  if (buffer < static_cast<int>(kLargestOpenCommand)) return fail(ENOBUFS);
  if (::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0) return fail_last();
  // Whoever made the socket may have made it non-blocking; the waits here are our own.
  const int status = ::fcntl(socket.get(), F_GETFL);
  if (status < 0) return fail_last();
  if ((status & O_NONBLOCK) != 0 && ::fcntl(socket.get(), F_SETFL, status & ~O_NONBLOCK) != 0)
    return fail_last();
  return Channel(std::move(socket));
}

Result<void> Channel::send(ByteView packet, std::optional<int> borrowed_fd) {
  if (packet.size() > kMaxPacket) return fail(EMSGSIZE);
  for (;;) {
    const ssize_t sent =
        borrowed_fd ? send_with_descriptors(socket_.get(), packet, {&*borrowed_fd, 1}, MSG_NOSIGNAL | MSG_EOR)
                    // Not sendmsg: the server sends no descriptors, and its sandbox does not let it.
                    : ::send(socket_.get(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_EOR);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return fail(ETIMEDOUT);  // limit_sending()
    if (sent < 0) return fail_transfer();
    if (static_cast<std::size_t>(sent) != packet.size()) return fail(EMSGSIZE);
    return {};
  }
}

Result<Packet> Channel::receive(Descriptors descriptors, std::optional<std::chrono::milliseconds> timeout) {
  if (timeout) RETURN_IF_ERROR(wait_readable(socket_.get(), *timeout));
  Packet packet;
  packet.bytes.resize(kMaxPacket);
  iovec data{.iov_base = packet.bytes.data(), .iov_len = packet.bytes.size()};
  // With room for all that a packet can carry none is cut off unseen.
  alignas(cmsghdr) std::array<std::byte, kRoomForSender + CMSG_SPACE(kMostDescriptors * sizeof(int))>
      control{};
  // Without room the kernel drops descriptors before they are ever ours, and says so by MSG_CTRUNC. The
  // sender comes first, and its room holds nothing else.
  std::size_t room = identifies_senders_ ? kRoomForSender : 0;
  if (descriptors == Descriptors::kAtMostOne) room = control.size();
  msghdr message{};
  ssize_t size = 0;
  do {
    message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (room != 0) {
      message.msg_control = control.data();
      message.msg_controllen = room;
    }
    size = ::recvmsg(socket_.get(), &message, MSG_TRUNC | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return fail_transfer();

  ControlData received = take_control_data(message);
  if ((message.msg_flags & MSG_CTRUNC) != 0 || received.foreign || received.descriptors.size() > 1)
    return fail(EBADMSG);
  packet.sender = received.sender.value_or(0);
  // An empty packet cannot be told from the end of the conversation, and is no message either.
  if (size == 0) return fail(ECONNRESET);
  if (received.sender.has_value() != identifies_senders_) return fail(EBADMSG);
  if (static_cast<std::size_t>(size) > kMaxPacket || (message.msg_flags & MSG_TRUNC) != 0)
    return fail(EMSGSIZE);
  packet.bytes.resize(static_cast<std::size_t>(size));
  if (!received.descriptors.empty()) packet.fd = std::move(received.descriptors.front());
  return packet;
}

void Channel::refuse_descriptors() {
  // Older kernels do not know it; receive() refuses descriptors there as well as here.
  const int off = 0;
  [[maybe_unused]] const int ignored =
      ::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
}

Result<void> Channel::identify_senders() {
  const int on = 1;
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) return fail_last();
  identifies_senders_ = true;
  return {};
}

Result<void> Channel::limit_sending(std::chrono::milliseconds patience) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(patience);
  const timeval time{.tv_sec = seconds.count(),
                     .tv_usec = std::chrono::microseconds(patience - seconds).count()};
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0) return fail_last();
  return {};
}

}  // namespace fuse4fs::protocol
