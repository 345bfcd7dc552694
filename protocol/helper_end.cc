// SPDX-License-Identifier: GPL-2.0-or-later
#include "protocol/channel.h"

namespace fuse4fs::protocol {

Result<void> HelperEnd::greet(const Hello& hello, int arguments_fd, int fuse_device_fd,
                              std::chrono::milliseconds timeout) {
  RETURN_IF_ERROR(channel_.send(encode(hello)));
  ASSIGN_OR_RETURN(const Packet packet, receive(timeout));
  ASSIGN_OR_RETURN(const HelloReply answer, decode_hello_reply(packet.bytes));
  if (answer.version < hello.oldest_version || answer.version > hello.newest_version) return fail(EOPNOTSUPP);
  RETURN_IF_ERROR(reply(FileReply{.error = 0, .name = std::string(kArgumentsName)}, arguments_fd));
  return reply(FileReply{.error = 0, .name = std::string(kFuseDeviceName)}, fuse_device_fd);
}

Result<Packet> HelperEnd::receive(std::optional<std::chrono::milliseconds> timeout) {
  ASSIGN_OR_RETURN(Packet packet, channel_.receive(Descriptors::kRefused, timeout));
  if (!peer_) peer_ = packet.sender;
  if (packet.sender != *peer_) return fail(EBADMSG);
  return packet;
}

Result<Command> HelperEnd::next_command(const Wait& wait) {
  for (;;) {
    if (wait) RETURN_IF_ERROR(wait());
    ASSIGN_OR_RETURN(const Packet packet, receive());
    auto command = decode_command(packet.bytes);
    if (command || command.error() != Errno(EINVAL)) return command;
    // One answer tells a newer server what it needs to know. A stream of such packets is something else.
    if (++refusals_ > kMostRefusals) return fail(EBADMSG);
    ASSIGN_OR_RETURN(const Bytes refusal, refusal_of(packet.bytes));
    RETURN_IF_ERROR(channel_.send(refusal));
  }
}

Result<void> HelperEnd::reply(const SimpleReply& reply) { return channel_.send(encode(reply)); }

Result<void> HelperEnd::reply(const FileReply& reply, std::optional<int> borrowed_fd) {
  if ((reply.error == 0) != borrowed_fd.has_value()) return fail(EINVAL);
  return channel_.send(encode(reply), borrowed_fd);
}

}  // namespace fuse4fs::protocol
