// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_client.h"

#include <fmt/format.h>
#include <libmount/libmount.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/mount_table.h"
#include "helper/server_words.h"
#include "helper/service_socket.h"
#include "helper/user_mount_request.h"
#include "protocol/channel.h"

namespace fuse4fs::helper {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
};

Outcome<UserRequest> request_of(const CommandLine& line) {
  if (line.type != kOwnType || !line.name_space.empty() ||
      (line.action != Action::kMount && line.action != Action::kStop))
    return fail(Errno(EPERM), "only root may do this");
  UserRequest request{.action = line.action == Action::kMount ? UserAction::kMount : UserAction::kStop,
                      .verbose = line.verbose,
                      .fake = line.fake,
                      .source = {},
                      .target = {},
                      .options = line.option_text};
  if (request.action == UserAction::kStop) {
    // Looking at the mount itself would hang where its server does.
    const auto path = spell_out(line.mount_point);
    if (!path) return fail(Errno(ENOENT), fmt::format("{}: no such directory", quoted(line.mount_point)));
    request.target = *path;
    return request;
  }
  const std::unique_ptr<char, Free> target(::realpath(line.mount_point.c_str(), nullptr));
  if (!target)
    return fail(Errno::last(), fmt::format("{}: {}", quoted(line.mount_point), Errno::last().message()));
  request.target = target.get();
  const std::unique_ptr<char, Free> source(mnt_resolve_spec(line.source.c_str(), nullptr));
  if (!source || *source != '/')
    return fail(Errno(ENOENT), fmt::format("{}: no such device or file", quoted(line.source)));
  request.source = source.get();
  return request;
}

Outcome<protocol::Channel> connect() {
  auto socket = connect_to_service(kUserServiceSocket);
  if (!socket) {
    return fail(
        socket.error(),
        fmt::format("only root may mount by itself; for others a service does it, and {} does not answer "
                    "({}); an administrator starts it with: systemctl enable --now fuse4fs-mount.socket",
                    kUserServiceSocket, socket.error().message()));
  }
  auto channel = protocol::Channel::adopt(std::move(*socket));
  if (!channel)
    return fail(channel.error(), fmt::format("{}: {}", kUserServiceSocket, channel.error().message()));
  return std::move(*channel);
}

}  // namespace

ExitStatus ask_user_service(const CommandLine& line) {
  const auto complain = [](const Failure& failure) {
    log_error("{}", failure.message);
    return kUsage;
  };
  const auto request = request_of(line);
  if (!request) return complain(request.error());
  auto channel = connect();
  if (!channel) return complain(channel.error());
  channel->refuse_descriptors();
  if (const auto sent = channel->send(encode_user_request(*request)); !sent)
    return complain({sent.error(), fmt::format("{}: {}", kUserServiceSocket, sent.error().message())});
  for (;;) {
    const auto packet = channel->receive(protocol::Descriptors::kRefused);
    const auto reply = packet ? decode_user_reply(packet->bytes) : fail(packet.error());
    if (!reply) {
      log_error("the users' service broke off: {}", reply.error().message());
      return kSystemError;
    }
    if (reply->status) return static_cast<ExitStatus>(*reply->status);
    const std::string text = without_control_characters(reply->words);
    (void)!::write(STDERR_FILENO, text.data(), text.size());
  }
}

}  // namespace fuse4fs::helper
