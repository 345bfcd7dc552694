// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/stop.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <ranges>
#include <vector>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/command_line.h"
#include "helper/mount_place.h"
#include "helper/mount_record.h"
#include "helper/mount_table.h"
#include "helper/mount_users.h"
#include "helper/server_search.h"

namespace fuse4fs::helper {
namespace {

// The last unmount has waited for the server to close the volume; it has only to exit still.
constexpr std::chrono::seconds kServersEnd{10};

std::string own_type() { return std::string(kOwnType); }

std::unexpected<Failure> not_unmounted(const MountEntry& mount, Errno error, std::string_view why) {
  return fail(error, fmt::format("{} is not unmounted: {}", quoted(mount.mount_point), why));
}

Outcome<MountPlace> place_of(const MountEntry& mount) {
  auto place = MountPlace::find(mount);
  if (place) return std::move(*place);
  const bool is_covered = place.error() == Errno(ESTALE);
  return not_unmounted(mount, is_covered ? Errno(EBUSY) : place.error(), words_of_place(place.error()));
}

// Whatever follows, what programs have written is then on the device. A mount whose server is gone cannot,
// and its unmount is no worse for it.
void write_back(const MountEntry& mount, const MountPlace& place) {
  const auto root = place.open(O_RDONLY | O_NONBLOCK);
  Result<void> synced = root ? Result<void>() : fail(root.error());
  if (synced && ::syncfs(root->get()) != 0) synced = fail_last();
  if (!synced && synced.error() != Errno(ENOTCONN))
    log_warning("{} could not be written back: {}", quoted(mount.mount_point), synced.error().message());
}

Outcome<void> unmount(const MountEntry& mount, const MountPlace& place, Detach detach) {
  const auto unmounted = place.unmount(detach == Detach::kLazily ? MNT_DETACH : 0);
  if (unmounted) return {};
  const Errno error = unmounted.error();
  if (error != Errno(EBUSY)) return not_unmounted(mount, error, words_of_place(error));
  const std::string users = users_of(mount);
  return not_unmounted(mount, error, users.empty() ? "it is busy" : fmt::format("it is busy: {}", users));
}

void await_end(const RunningServer& server) {
  if (server.ends_within(kServersEnd)) return;
  log_warning(
      "all is unmounted here, but the server (process {}) goes on: another mount namespace has the mount "
      "still, "
      "or the server hangs",
      server.pid());
}

Outcome<void> unmount_all(dev_t device, Detach detach) {
  std::vector<MountEntry> mounts = mounts_of(device, own_type());
  if (!mounts.empty())
    if (const auto place = MountPlace::find(mounts.back())) write_back(mounts.back(), *place);
  // The last one first: it may stand on an earlier one.
  for (const MountEntry& mount : mounts | std::views::reverse) {
    ASSIGN_OR_RETURN(const MountPlace place, place_of(mount));
    RETURN_IF_ERROR(unmount(mount, place, detach));
  }
  return {};
}

Outcome<void> enter_namespace(std::uint64_t name_space) {
  if (name_space == own_mount_namespace()) return {};
  // A command of systemd's runs there, but may have been given a file system of its own.
  const UniqueFd first(::open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC));
  struct stat status = {};
  if (!first || ::fstat(first.get(), &status) != 0 || status.st_ino != name_space) {
    return fail(Errno(EINVAL), "it is mounted in another mount namespace: unmount it there (nsenter -m)");
  }
  if (::setns(first.get(), CLONE_NEWNS) != 0)
    return fail(Errno::last(),
                fmt::format("the mount namespace cannot be entered: {}", Errno::last().message()));
  return {};
}

std::optional<MountRecord> find_record(const RecordDirectory& records, const StopOrder& order) {
  const auto all = records.all();
  const auto found = std::ranges::find_if(all, [&](const MountRecord& record) {
    if (!order.unit.empty()) return record.unit == order.unit;
    const auto now = identify(order.pid);
    return now && *now == record.server;
  });
  if (found == all.end()) return std::nullopt;
  return *found;
}

Outcome<void> stop_by_record(RecordDirectory& records, const StopOrder& order) {
  const auto record = find_record(records, order);
  if (!record) return {};
  RETURN_IF_ERROR(enter_namespace(record->name_space));
  const auto server = find_running(record->server);
  RETURN_IF_ERROR(unmount_all(record->device, order.detach));
  if (order.detach == Detach::kLazily) return {};
  if (server) await_end(*server);
  // One that goes on is known by its record still.
  if (!find_running(record->server)) records.remove(*record);
  return {};
}

// One mount of perhaps several: the server ends with the last.
Outcome<void> stop_one(const MountEntry& mount, const MountIdentity& judged, Detach detach) {
  ASSIGN_OR_RETURN(const MountPlace place, place_of(mount));
  if (place.identity() != judged) return not_unmounted(mount, Errno(ESTALE), "it is another mount by now");
  const auto servers = servers_of(mount.device);
  write_back(mount, place);
  RETURN_IF_ERROR(unmount(mount, place, detach));
  if (detach == Detach::kLazily || !mounts_of(mount.device, own_type()).empty()) return {};
  for (const RunningServer& server : servers) await_end(server);
  return {};
}

Outcome<void> stop_directory(const StopOrder& order) {
  // stat(2) of a mount whose server hangs would hang.
  const auto path = spell_out(order.directory);
  std::optional<MountEntry> mount;
  if (path) mount = order.only ? mount_with_id(order.only->id) : find_mount(*path);
  if (!mount) return fail(Errno(EINVAL), fmt::format("{} is not a mount point", quoted(order.directory)));
  if (!has_type(*mount, own_type())) {
    return fail(Errno(EINVAL), fmt::format("{} is a mount of type {}, not of {}", quoted(*path),
                                           quoted(mount->type), own_type()));
  }
  if (order.only) return stop_one(*mount, *order.only, order.detach);
  const auto servers = servers_of(mount->device);
  RETURN_IF_ERROR(unmount_all(mount->device, order.detach));
  if (order.detach == Detach::kLazily) return {};
  for (const RunningServer& server : servers) await_end(server);
  return {};
}

}  // namespace

Outcome<void> stop(const StopOrder& order) {
  auto records = RecordDirectory::open();
  Outcome<void> outcome;
  if (!order.directory.empty()) {
    outcome = stop_directory(order);
  } else if (!order.unit.empty() || order.pid != 0) {
    if (!records) {
      return fail(records.error(), fmt::format("{}: {}", kRecordDirectory, records.error().message()));
    }
    outcome = stop_by_record(*records, order);
  }
  if (records) records->remove_stale();
  return outcome;
}

}  // namespace fuse4fs::helper
