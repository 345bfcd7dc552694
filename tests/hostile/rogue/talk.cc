// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/hostile/rogue/talk.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace fuse4fs::rogue {
namespace {

struct Answer {
  ssize_t length = -1;
  protocol::Bytes bytes;
  bool descriptor = false;
};

Answer receive(int socket) {
  Answer answer;
  answer.bytes.resize(protocol::kMaxPacket);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  iovec data{answer.bytes.data(), answer.bytes.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  do {
    answer.length = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (answer.length < 0 && errno == EINTR);
  answer.descriptor = answer.length > 0 && CMSG_FIRSTHDR(&message) != nullptr;
  answer.bytes.resize(answer.length > 0 ? static_cast<std::size_t>(answer.length) : 0);
  return answer;
}

}  // namespace

bool send_only(Place& place, protocol::ByteView packet) {
  return ::send(place.socket, packet.data(), packet.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(packet.size());
}

Verdict ask(Place& place, protocol::ByteView packet) {
  if (!send_only(place, packet))
    return errno == EPIPE || errno == ECONNRESET ? conversation_ended() : by_errno(-1);
  const Answer answer = receive(place.socket);
  if (answer.length <= 0) return conversation_ended();
  if (answer.descriptor) return succeeded("a descriptor");
  if (const auto simple = protocol::decode_simple_reply(answer.bytes))
    return simple->error == 0 ? succeeded("the helper agreed") : refused_with(simple->error);
  if (const auto file = protocol::decode_file_reply(answer.bytes))
    return file->error == 0 ? succeeded("the helper agreed") : refused_with(file->error);
  return succeeded("an answer of another kind");
}

Verdict wait_for_end(Place& place) {
  while (receive(place.socket).length > 0) {
  }
  return conversation_ended();
}

Verdict ask_open(Place& place, std::string path, std::uint32_t flags) {
  return ask(place, protocol::Command(protocol::OpenFile{
                        .path = std::move(path), .open_flags = flags, .create_mode = 0, .quiet = true}));
}

Verdict ask_device(Place& place, std::string path, std::uint32_t flags, std::uint32_t block_size) {
  return ask(place, protocol::Command(protocol::OpenBlockDevice{.path = std::move(path),
                                                                .open_flags = flags,
                                                                .create_mode = 0,
                                                                .quiet = true,
                                                                .block_size = block_size}));
}

protocol::Bytes raw_packet(std::string_view bytes) {
  protocol::Bytes packet;
  for (const char c : bytes) packet.push_back(static_cast<std::byte>(c));
  return packet;
}

Verdict mount_it(Place& place, const MountWords& words) {
  const protocol::Command way[] = {
      protocol::OpenFsContext{.fuseblk = true}, protocol::SetSource{place.options->source},
      protocol::SetMountPoint{place.options->mount_point, protocol::MountPointType::kDirectory},
      protocol::SetMountOptions{words.options}, protocol::Mount{.flags = words.flags}};
  Verdict verdict;
  for (const auto& command : way)
    if (verdict = ask(place, command); verdict.kind != Verdict::Kind::kSucceeded) return verdict;
  return verdict;
}

}  // namespace fuse4fs::rogue
