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
#include "helper/mount_record.h"
#include "helper/mount_table.h"
#include "helper/mount_users.h"
#include "helper/server_search.h"

namespace fuse4fs::helper {
namespace {

// The last unmount has waited for the server to close the volume; it has only to exit still.
constexpr std::chrono::seconds kServersEnd{10};

std::string own_type() { return std::string(kOwnType); }

// The directory that holds a mount point, and the mount point's name in it.
struct Place {
  UniqueFd parent;
  std::string name;
};

Result<Place> find_place(const std::string& mount_point) {
  const auto slash = mount_point.rfind('/');
  if (slash == std::string::npos || slash + 1 == mount_point.size()) return fail(EINVAL);
  Place place{
      .parent = UniqueFd(::open(mount_point.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      .name = mount_point.substr(slash + 1)};
  if (!place.parent) return fail_last();
  return place;
}

// Whether this very mount, and no other on top of it, is what the name leads to. Asks no file system.
bool is_on_top(const Place& place, const MountEntry& mount) {
  struct statx status = {};
  return ::statx(place.parent.get(), place.name.c_str(),
                 AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID, &status) == 0 &&
         status.stx_mnt_id == static_cast<std::uint64_t>(mount.id);
}

// Whatever follows, what programs have written is then on the device. A mount whose server is gone cannot,
// and its unmount is no worse for it.
void write_back(const MountEntry& mount) {
  const auto place = find_place(mount.mount_point);
  if (!place || !is_on_top(*place, mount)) return;
  const UniqueFd root(::openat(place->parent.get(), place->name.c_str(),
                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  const int error = root && ::syncfs(root.get()) == 0 ? 0 : errno;
  if (error != 0 && error != ENOTCONN)
    log_warning("{} could not be written back: {}", quoted(mount.mount_point), Errno(error).message());
}

Outcome<void> unmount(const MountEntry& mount, Detach detach) {
  const auto words_for = [&](Errno error, std::string_view why) {
    return fail(error, fmt::format("{} is not unmounted: {}", quoted(mount.mount_point), why));
  };
  const auto place = find_place(mount.mount_point);
  if (!place) return words_for(place.error(), place.error().message());
  if (!is_on_top(*place, mount)) return words_for(Errno(EBUSY), "another mount covers it");
  // From its parent's descriptor: no other part of the path can be exchanged meanwhile.
  if (::fchdir(place->parent.get()) != 0) return words_for(Errno::last(), Errno::last().message());
  const int flags = UMOUNT_NOFOLLOW | (detach == Detach::kLazily ? MNT_DETACH : 0);
  const int result = ::umount2(place->name.c_str(), flags);
  const Errno error = Errno::last();
  if (::chdir("/") != 0) return words_for(Errno::last(), Errno::last().message());
  if (result == 0) return {};
  if (error != Errno(EBUSY)) return words_for(error, error.message());
  const std::string users = users_of(mount);
  return words_for(error, users.empty() ? "it is busy" : fmt::format("it is busy: {}", users));
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
  if (!mounts.empty()) write_back(mounts.back());
  // The last one first: it may stand on an earlier one.
  for (const MountEntry& mount : mounts | std::views::reverse) RETURN_IF_ERROR(unmount(mount, detach));
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

Outcome<void> stop_directory(const StopOrder& order) {
  // stat(2) of a mount whose server hangs would hang.
  const auto path = spell_out(order.directory);
  const auto mount = path ? find_mount(*path) : std::nullopt;
  if (!mount) return fail(Errno(EINVAL), fmt::format("{} is not a mount point", quoted(order.directory)));
  if (!has_type(*mount, own_type())) {
    return fail(Errno(EINVAL), fmt::format("{} is a mount of type {}, not of {}", quoted(*path),
                                           quoted(mount->type), own_type()));
  }
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
