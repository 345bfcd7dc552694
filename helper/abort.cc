// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/abort.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mount.h>

#include <chrono>
#include <vector>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/command_line.h"
#include "helper/connection_control.h"
#include "helper/mount_place.h"
#include "helper/mount_table.h"
#include "helper/server_search.h"

namespace fuse4fs::helper {
namespace {

// How long a server may take to close the volume in order, once its mount is gone.
constexpr std::chrono::milliseconds kOrderlyEnd{2000};
constexpr std::chrono::milliseconds kKilledEnd{2000};

void end_server(const RunningServer& server) {
  if (server.ends_within(kOrderlyEnd)) return;
  if (const auto killed = server.send_signal(SIGKILL); !killed && killed.error() != Errno(ESRCH)) {
    log_warning("the server (process {}) does not end, and cannot be killed: {}", server.pid(),
                killed.error().message());
    return;
  }
  if (server.ends_within(kKilledEnd)) {
    log_warning("the server (process {}) did not end by itself and was killed", server.pid());
  } else {
    log_warning("the server (process {}) was killed, but waits for its device still", server.pid());
  }
}

}  // namespace

Outcome<void> abort_mount(const std::string& directory, const std::string& subtype) {
  // stat(2) of the mount itself would hang as everybody else does.
  const auto path = spell_out(directory);
  if (!path)
    return fail(Errno(ENOENT),
                fmt::format("{}: no such directory; name the mount point itself", quoted(directory)));
  const auto entry = find_mount(*path);
  if (!entry) return fail(Errno(EINVAL), fmt::format("{} is not a mount point", quoted(*path)));
  if (!has_type(*entry, subtype)) {
    return fail(Errno(EINVAL), fmt::format("{} is a mount of type {}, not of {}", quoted(*path),
                                           quoted(entry->type), subtype));
  }
  const auto place = MountPlace::find(*entry);
  if (!place) return fail(place.error(), fmt::format("{}: {}", quoted(*path), words_of_place(place.error())));
  // Now, while the device number surely means this mount. Another project's service may serve more mounts
  // than this one: it is left alone.
  std::vector<RunningServer> servers;
  if (subtype == kOwnType) servers = servers_of(entry->device);
  const auto aborted = abort_connection(entry->device);
  // MNT_FORCE aborts the connection, too, where the control file system is not to be had.
  if (const auto unmounted = place->unmount(MNT_DETACH | (aborted ? 0 : MNT_FORCE)); !unmounted)
    return fail(unmounted.error(),
                fmt::format("{} cannot be unmounted: {}", quoted(*path), unmounted.error().message()));
  for (const RunningServer& server : servers) end_server(server);
  return {};
}

}  // namespace fuse4fs::helper
