// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>

#include "protocol/channel.h"

namespace fuse4fs::protocol {
namespace {

// A FILE reply with its descriptor exactly where there is no error.
Result<FileReply> judge(const Packet& packet, std::string_view name) {
  ASSIGN_OR_RETURN(FileReply reply, decode_file_reply(packet.bytes));
  if (reply.name != name) return fail(EBADMSG);
  if ((reply.error == 0) != static_cast<bool>(packet.fd)) return fail(EBADMSG);
  return reply;
}

Result<UniqueFd> receive_unasked(Channel& channel, std::string_view name) {
  ASSIGN_OR_RETURN(Packet packet, channel.receive(Descriptors::kAtMostOne));
  ASSIGN_OR_RETURN(const FileReply reply, judge(packet, name));
  if (reply.error != 0) return fail(reply.error);
  return std::move(packet.fd);
}

// What the other side would refuse to read is not sent: the caller hears of it, and the conversation lives
// on.
Result<Bytes> encode_checked(const Command& command) {
  Bytes packet = encode(command);
  const auto read_back = decode_command(packet);
  if (!read_back) return fail(read_back.error() == Errno(EMSGSIZE) ? EMSGSIZE : EINVAL);
  if (*read_back != command) return fail(EINVAL);
  return packet;
}

}  // namespace

Result<ServerEnd::Greeting> ServerEnd::greet() {
  const auto attempt = [this]() -> Result<Greeting> {
    ASSIGN_OR_RETURN(const Packet packet, channel_.receive(Descriptors::kRefused));
    ASSIGN_OR_RETURN(const Hello hello, decode_hello(packet.bytes));
    const std::uint16_t version = std::min(hello.newest_version, kNewestVersion);
    if (version < std::max(hello.oldest_version, kOldestVersion)) return fail(EOPNOTSUPP);
    RETURN_IF_ERROR(channel_.send(encode(HelloReply{.version = version})));
    Greeting greeting{.hello = hello, .arguments = {}, .fuse_device = {}};
    ASSIGN_OR_RETURN(greeting.arguments, receive_unasked(channel_, kArgumentsName));
    ASSIGN_OR_RETURN(greeting.fuse_device, receive_unasked(channel_, kFuseDeviceName));
    return greeting;
  };
  auto greeting = attempt();
  broken_ = !greeting;
  return greeting;
}

Result<Packet> ServerEnd::exchange(const Bytes& packet, Descriptors descriptors) {
  if (broken_) return fail(ECONNRESET);
  // Broken until the answer has been read and found sound.
  broken_ = true;
  RETURN_IF_ERROR(channel_.send(packet));
  return channel_.receive(descriptors);
}

Result<UniqueFd> ServerEnd::request(const Command& what, std::string_view name) {
  ASSIGN_OR_RETURN(const Bytes question, encode_checked(what));
  ASSIGN_OR_RETURN(Packet answer, exchange(question, Descriptors::kAtMostOne));
  ASSIGN_OR_RETURN(const FileReply reply, judge(answer, name));
  broken_ = false;
  if (reply.error != 0) return fail(reply.error);
  return std::move(answer.fd);
}

Result<UniqueFd> ServerEnd::open(const OpenFile& what) { return request(what, what.path); }

Result<UniqueFd> ServerEnd::open(const OpenBlockDevice& what) { return request(what, what.path); }

Result<void> ServerEnd::command(const Command& command) {
  // These are answered by something else, or not at all.
  if (std::holds_alternative<OpenFile>(command) || std::holds_alternative<OpenBlockDevice>(command) ||
      std::holds_alternative<Goodbye>(command))
    return fail(EINVAL);
  ASSIGN_OR_RETURN(const Bytes question, encode_checked(command));
  ASSIGN_OR_RETURN(const Packet answer, exchange(question, Descriptors::kRefused));
  ASSIGN_OR_RETURN(const SimpleReply reply, decode_simple_reply(answer.bytes));
  broken_ = false;
  if (reply.error != 0) return fail(reply.error);
  return {};
}

Result<void> ServerEnd::say_goodbye(std::uint32_t exit_code) {
  // A half-finished exchange does not matter any more: the helper reads this next in any case.
  auto sent = channel_.send(encode(Command(Goodbye{.exit_code = exit_code})));
  channel_.close();
  broken_ = true;
  return sent;
}

}  // namespace fuse4fs::protocol
