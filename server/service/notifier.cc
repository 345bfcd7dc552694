// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/notifier.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>

#include "base/quoted.h"

namespace fuse4fs::service {
namespace {

bool has_option(int socket, int option, int wanted) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

// One line, which systemd takes only as UTF-8: names with other bytes come in quotes.
std::string plain(const std::string& name) {
  return std::ranges::all_of(name, [](char byte) { return byte >= ' ' && byte <= '~'; }) ? name
                                                                                         : quoted(name);
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace

std::string text_of(const MountStatus& status) {
  std::string text = fmt::format("{} on {}{}: ", plain(status.device), plain(status.mount_point),
                                 status.read_only ? ", read-only" : "");
  if (status.size != 0)
    text += fmt::format("{} of {} free, ", size_text(status.free), size_text(status.size));
  if (status.errors == 0) return text + "no errors";
  return text + fmt::format("{} error{}, see the journal", status.errors, status.errors == 1 ? "" : "s");
}

Notifier::Notifier(UniqueFd socket) {
  if (has_option(socket.get(), SO_DOMAIN, AF_UNIX) && has_option(socket.get(), SO_TYPE, SOCK_DGRAM))
    socket_ = std::move(socket);
}

bool Notifier::send(std::string_view message) const {
  return ::send(socket_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void Notifier::ready(std::string_view status) {
  if (!socket_) return;
  const auto message = fmt::format("READY=1\nSTATUS={}", status);
  // Lost, it would be the end of a mount that serves: so this one may wait for room.
  constexpr int kTries = 10;
  constexpr int kMilliseconds = 1000;
  for (int tried = 0; tried < kTries; ++tried) {
    if (send(message)) {
      told_ = status;
      return;
    }
    if (errno != EAGAIN && errno != EINTR) return;
    pollfd room{.fd = socket_.get(), .events = POLLOUT, .revents = 0};
    ::poll(&room, 1, kMilliseconds);
  }
}

void Notifier::status(std::string_view status) {
  if (socket_ && status != told_ && send(fmt::format("STATUS={}", status))) told_ = status;
}

void Notifier::stopping(std::string_view status) {
  if (socket_ && send(fmt::format("STOPPING=1\nSTATUS={}", status))) told_ = status;
}

void Notifier::alive(std::chrono::microseconds limit) const {
  if (socket_) (void)send(fmt::format("WATCHDOG=1\nEXTEND_TIMEOUT_USEC={}", limit.count()));
}

}  // namespace fuse4fs::service
