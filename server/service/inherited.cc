// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/service/inherited.h"

#include <sys/socket.h>
#include <unistd.h>

#include <limits>

#include "server/service/environment.h"

namespace fuse4fs::service {
namespace {

constexpr int kMostInherited = 1024;

enum class Kind { kListening, kConnection, kNoSocket };

Kind kind_of(int descriptor) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) return Kind::kNoSocket;
  return listening != 0 ? Kind::kListening : Kind::kConnection;
}

}  // namespace

std::optional<int> inherited_count(const char* listen_fds, const char* listen_pid, long own) {
  const auto pid = number_in(listen_pid);
  const auto count = number_in(listen_fds);
  if (!pid || *pid != own || !count || *count < 1 || *count > kMostInherited) return std::nullopt;
  return static_cast<int>(*count);
}

Outcome<UniqueFd> take_connection(int count) {
  UniqueFd connection;
  bool listened = false;
  for (int i = 0; i < count; ++i) {
    UniqueFd descriptor(kFirstInherited + i);
    const Kind kind = kind_of(descriptor.get());
    listened = listened || kind == Kind::kListening;
    if (kind == Kind::kConnection && !connection) connection = std::move(descriptor);
  }
  ::close_range(static_cast<unsigned>(kFirstInherited + count), std::numeric_limits<unsigned>::max(), 0);
  if (connection) return connection;
  if (listened)
    return fail(
        Errno(ENOTCONN),
        "the service was started again without the connection of a mount: mount(8) starts a service for each "
        "mount, and one that has ended leaves a mount point that is to be unmounted");
  return fail(Errno(ENOTCONN), "what was handed over is not the connection of a mount");
}

}  // namespace fuse4fs::service
