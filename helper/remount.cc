// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/remount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mount.h>

#include <cstdlib>
#include <memory>

#include "base/log.h"
#include "base/quoted.h"
#include "helper/bdi.h"
#include "helper/mount_place.h"
#include "helper/mount_table.h"
#include "helper/server_search.h"

namespace fuse4fs::helper {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
};

MountType type_of(const MountEntry& entry) {
  return entry.type.starts_with("fuseblk") ? MountType::kFuseBlock : MountType::kFuse;
}

}  // namespace

unsigned long merged_flags(unsigned long present, const MountOptions& options) {
  return (present & ~options.mentioned) | options.flags;
}

Outcome<void> remount(const std::string& directory, const std::string& subtype, const MountOptions& options) {
  const std::unique_ptr<char, Free> path(::realpath(directory.c_str(), nullptr));
  if (!path) return fail(Errno::last(), fmt::format("{}: {}", quoted(directory), Errno::last().message()));
  const auto entry = find_mount(path.get());
  if (!entry) return fail(Errno(EINVAL), fmt::format("{} is not a mount point", quoted(path.get())));
  if (!has_type(*entry, subtype)) {
    return fail(Errno(EINVAL), fmt::format("{} is a mount of type {}, not of {}", quoted(path.get()),
                                           quoted(entry->type), subtype));
  }
  const auto place = MountPlace::find(*entry);
  const auto root = place ? place->open(O_PATH) : fail(place.error());
  if (!root)
    return fail(root.error(), fmt::format("{}: {}", quoted(path.get()), words_of_place(root.error())));
  // No error: mount(8) brings along all that stands in the fstab line.
  for (const std::string& option : options.for_new_mounts)
    log_warning("option {} is not changed by a remount: it takes a new mount", quoted(option));
  unsigned long flags = merged_flags(entry->flags, options);
  if ((flags & ~entry->flags & kLazyTime) != 0 && !has_iomap(entry->device, type_of(*entry))) {
    log_info("{}", kNoLazyTime);
    flags &= ~kLazyTime;
  }
  // The kernel would allow it, and programs would lose what they write.
  if ((entry->flags & MS_RDONLY) != 0 && (flags & MS_RDONLY) == 0 && !has_writing_server(entry->device)) {
    return fail(Errno(EROFS),
                fmt::format("{} is read-only, and so is its server: unmount it and mount it again",
                            quoted(path.get())));
  }
  // The server is told at the start, and never again.
  constexpr unsigned long kAccessTimes = MS_NOATIME | MS_NODIRATIME | MS_STRICTATIME;
  if (((entry->flags ^ flags) & kAccessTimes) != 0) {
    log_warning(
        "{}: reading sets access times as when it was mounted; to change that, unmount it and mount it again",
        quoted(path.get()));
  }
  // By the descriptor: the path may lead elsewhere by now.
  const std::string directory_of_root = fmt::format("/proc/self/fd/{}", root->get());
  if (::mount("none", directory_of_root.c_str(), nullptr, MS_REMOUNT | flags, nullptr) != 0) {
    return fail(Errno::last(),
                fmt::format("{} is not remounted: {}{}", quoted(path.get()), Errno::last().message(),
                            errno == EBUSY ? " (files are open for writing)" : ""));
  }
  return {};
}

}  // namespace fuse4fs::helper
