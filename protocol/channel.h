// SPDX-License-Identifier: GPL-2.0-or-later
// One end of the AF_UNIX SOCK_SEQPACKET connection: packets and descriptors, each received one checked and
// owned.
//
// One thread per end. Errors: EBADMSG for what the other side did wrong (more or other control data than
// expected, truncation), EMSGSIZE for a packet over kMaxPacket, ECONNRESET when the other end is closed (an
// empty packet counts as that), ETIMEDOUT. Sending never raises SIGPIPE; an interrupted call goes on. No
// descriptor is ever leaked: what arrives with a refused packet is closed.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/messages.h"

namespace fuse4fs::protocol {

struct Packet {
  Bytes bytes;
  UniqueFd fd;  // empty if none came
  // Only after identify_senders(): the process that sent it, as the kernel vouches for it. 0: one that cannot
  // be seen from this process's pid namespace.
  pid_t sender = 0;
};

enum class Descriptors { kRefused, kAtMostOne };

class Channel {
 public:
  // Checks family (EAFNOSUPPORT), type (EPROTOTYPE), the send buffer (ENOBUFS if it cannot hold the largest
  // open command), sets close-on-exec and blocking mode.
  static Result<Channel> adopt(UniqueFd socket);

  Result<void> send(ByteView packet, std::optional<int> borrowed_fd = std::nullopt);
  // Waits at most `timeout` (for ever without one).
  Result<Packet> receive(Descriptors descriptors,
                         std::optional<std::chrono::milliseconds> timeout = std::nullopt);
  // Tells the kernel to refuse descriptors on this socket where it can (SO_PASSRIGHTS).
  void refuse_descriptors();
  // From now on each packet names its sender (SO_PASSCRED); one that does not is EBADMSG. Before the other
  // side has anything to answer to.
  Result<void> identify_senders();
  // How long send() waits for an other side that does not read: then ETIMEDOUT.
  Result<void> limit_sending(std::chrono::milliseconds patience);
  void close() { socket_.reset(); }

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
  bool identifies_senders_ = false;
};

// The helper's end, in the order of the protocol's state machine. No policy: what a command may do is the
// caller's.
//
// All packets must come from one process, whoever else has got hold of its socket: the one that expect_peer()
// names, or else the one that answered the greeting. EBADMSG for those of another.
class HelperEnd {
 public:
  explicit HelperEnd(Channel channel) : channel_(std::move(channel)) {}

  // Before greet().
  void expect_peer(pid_t process) { peer_ = process; }
  // Who is spoken to; 0: unknown, before greet() and across some containers' borders.
  [[nodiscard]] pid_t peer() const { return peer_.value_or(0); }

  // Sends HELLO, checks the answer (EOPNOTSUPP if its version is outside the range), sends the arguments and
  // the FUSE device.
  Result<void> greet(const Hello& hello, int arguments_fd, int fuse_device_fd,
                     std::chrono::milliseconds timeout);
  // Called before each packet is received; its error ends the conversation.
  using Wait = std::function<Result<void>()>;
  // Waits for ever, or as `wait` does. A command whose only fault is an unknown flag is answered here
  // (refusal_of), up to a limit; it is never seen by the caller.
  Result<Command> next_command(const Wait& wait = {});
  Result<void> reply(const SimpleReply& reply);
  // `borrowed_fd` exactly if reply.error is 0.
  Result<void> reply(const FileReply& reply, std::optional<int> borrowed_fd);

  [[nodiscard]] int fd() const { return channel_.fd(); }

 private:
  static constexpr int kMostRefusals = 32;

  Result<Packet> receive(std::optional<std::chrono::milliseconds> timeout = std::nullopt);

  Channel channel_;
  std::optional<pid_t> peer_;
  int refusals_ = 0;
};

// The server's end.
class ServerEnd {
 public:
  explicit ServerEnd(Channel channel) : channel_(std::move(channel)) {}

  struct Greeting {
    Hello hello;
    UniqueFd arguments;
    UniqueFd fuse_device;
  };
  // Receives HELLO, answers it, receives the two files. EOPNOTSUPP if no version fits.
  Result<Greeting> greet();
  // The error of the Result is the helper's answer, or EINVAL or EMSGSIZE for a command that no helper would
  // accept (nothing was sent), or the channel's own; only the last ends the conversation, and broken() tells
  // it apart.
  Result<UniqueFd> open(const OpenFile& what);
  Result<UniqueFd> open(const OpenBlockDevice& what);
  // Any of the commands that are answered by a SimpleReply; EINVAL for the others.
  Result<void> command(const Command& command);
  // Closes the socket after it. In any state: a helper that is owed an answer still reads it.
  Result<void> say_goodbye(std::uint32_t exit_code);
  void refuse_descriptors() { channel_.refuse_descriptors(); }

  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] int fd() const { return channel_.fd(); }

 private:
  Result<Packet> exchange(const Bytes& packet, Descriptors descriptors);
  Result<UniqueFd> request(const Command& what, std::string_view name);

  Channel channel_;
  bool broken_ = false;
};

}  // namespace fuse4fs::protocol
