// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/fuse_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/quoted.h"
#include "helper/connection_control.h"
#include "helper/fs_context.h"
#include "helper/fuse_device.h"
#include "helper/fuse_numbers.h"
#include "helper/mount_options.h"
#include "helper/mount_place.h"
#include "helper/mount_table.h"

namespace fuse4fs::helper {
namespace {

// Nothing can be done about a connection that cannot be ended, but to go on undoing.
void end_connection(dev_t device) { [[maybe_unused]] const auto ended = abort_connection(device); }

}  // namespace

unsigned mount_attributes(unsigned long flags) {
  struct Pair {
    unsigned long flag;
    unsigned attribute;
  };
  constexpr Pair kPairs[] = {
      {MS_RDONLY, MOUNT_ATTR_RDONLY},         {MS_NOSUID, MOUNT_ATTR_NOSUID},
      {MS_NODEV, MOUNT_ATTR_NODEV},           {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
      {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
  };
  unsigned attributes = MOUNT_ATTR_RELATIME;
  if ((flags & MS_NOATIME) != 0)
    attributes = MOUNT_ATTR_NOATIME;
  else if ((flags & MS_STRICTATIME) != 0)
    attributes = MOUNT_ATTR_STRICTATIME;
  for (const auto& [flag, attribute] : kPairs)
    if ((flags & flag) != 0) attributes |= attribute;
  return attributes;
}

FsContext FuseMount::configure(const MountRequest& request) const {
  FsContext context(request.type == MountType::kFuseBlock ? "fuseblk" : "fuse");
  // The kernel opens fuseblk's: that is the device, whatever the server calls it.
  const bool is_named = request.type == MountType::kFuse && !request.source.empty();
  context.set("source", is_named ? request.source : source_.path());
  context.set("subtype", subtype_);
  context.set("fd", fmt::format("{}", fuse_device_));
  context.set("rootmode", "40000");
  context.set("user_id", fmt::format("{}", owner_.user));
  context.set("group_id", fmt::format("{}", owner_.group));
  context.set("allow_other");
  context.set("default_permissions");
  // A volume with blocks smaller than the device's sectors (1 KiB on 4 KiB) is refused by fuseblk, with
  // EINVAL.
  if (request.block_size != 0 && request.type == MountType::kFuseBlock)
    context.set("blksize",
                fmt::format("{}", std::max(request.block_size, source_.sector_size().value_or(0))));
  if (request.max_read != 0) context.set("max_read", fmt::format("{}", request.max_read));
  if (request.root_node != 0) context.set(kRootNodeOption, fmt::format("{}", request.root_node));
  if ((request.flags & MS_RDONLY) != 0) context.set("ro");
  if ((request.flags & MS_SYNCHRONOUS) != 0) context.set("sync");
  if ((request.flags & MS_DIRSYNC) != 0) context.set("dirsync");
  if ((request.flags & kLazyTime) != 0) context.set("lazytime");
  return context;
}

Outcome<UniqueFd> FuseMount::create(const MountRequest& request) {
  FsContext context = configure(request);
  if (context.ok()) source_.drop_claim();
  context.create();
  if (!context.ok())
    return fail(context.error(),
                fmt::format("the kernel does not mount {}: {}", quoted(source_.path()), context.words()));
  // The kernel shares the superblock of a device that is mounted already; ours is the one that took our
  // descriptor.
  if (!clone_fuse_device(fuse_device_))
    return fail(Errno(EBUSY),
                fmt::format("{} was mounted by another program in this moment", quoted(source_.path())));
  auto mount = context.mount(mount_attributes(request.flags));
  if (mount) return std::move(*mount);
  // Dropping the context would wait for the server's answer to DESTROY.
  if (request.type == MountType::kFuseBlock) end_connection(source_.device_number());
  return fail(mount.error(),
              fmt::format("fsmount of {}: {}", quoted(source_.path()), mount.error().message()));
}

Outcome<UniqueFd> FuseMount::create_shared(const MountRequest& request) {
  FsContext context = configure(request);
  context.create();
  if (context.error() == Errno(EBUSY)) {
    const bool read_only = (request.flags & MS_RDONLY) != 0;
    return fail(Errno(EBUSY),
                fmt::format("{} is mounted already, for {}: a further mount must be so, too (ro or rw; "
                            "kernel: {})",
                            quoted(source_.path()), read_only ? "reading and writing" : "reading only",
                            context.words()));
  }
  if (!context.ok())
    return fail(context.error(),
                fmt::format("the kernel does not mount {}: {}", quoted(source_.path()), context.words()));
  // The superblock must not be a new one, which nobody would serve: it would have taken our descriptor.
  if (clone_fuse_device(fuse_device_)) {
    end_connection(source_.device_number());
    return fail(Errno(EAGAIN), fmt::format("{} was unmounted in this moment", quoted(source_.path())));
  }
  auto mount = context.mount(mount_attributes(request.flags));
  if (mount) return std::move(*mount);
  return fail(mount.error(),
              fmt::format("fsmount of {}: {}", quoted(source_.path()), mount.error().message()));
}

Outcome<void> FuseMount::check(int mount) {
  const auto identity = identity_of(mount, "");
  if (!identity)
    return fail(identity.error(), fmt::format("statx of the mount: {}", identity.error().message()));
  device_number_ = identity->device;
  if (type_ == MountType::kFuseBlock && device_number_ != source_.device_number())
    return fail(Errno(ESTALE),
                fmt::format("{} became another device while it was mounted", quoted(source_.path())));
  return {};
}

// While the mount that was made of it is held, the connection of this number is no other one.
Outcome<void> FuseMount::check_owner() const {
  const auto owner = owner_of_connection(device_number_);
  if (!owner) {
    return fail(owner.error(), fmt::format("whose the present mount of {} is cannot be found out: {}",
                                           quoted(source_.path()), owner.error().message()));
  }
  if (*owner == owner_.user) return {};
  return fail(
      Errno(EPERM),
      fmt::format("{} is mounted already, for {}: who mounted it first may unmount each of its mounts, so "
                  "nobody else mounts it as well",
                  quoted(source_.path()), *owner == 0 ? "root" : fmt::format("user {}", *owner)));
}

Outcome<void> FuseMount::mount(const MountRequest& request) {
  type_ = request.type;
  const auto visit = mount_point_.enter();
  if (!visit) return fail(visit.error(), fmt::format("mount namespace: {}", visit.error().message()));
  ASSIGN_OR_RETURN(UniqueFd mount, create(request));
  auto outcome = check(mount.get());
  if (outcome && before_attaching_) before_attaching_(mount.get());
  if (outcome) outcome = attach(mount.get());
  // Closing the mount would wait for the server's answer to DESTROY.
  if (!outcome && device_number_ != 0) end_connection(device_number_);
  if (outcome) mount_ = std::move(mount);
  return outcome;
}

Outcome<void> FuseMount::attach(int mount) const {
  if (::move_mount(mount, "", mount_point_.directory(), "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0)
    return {};
  return fail(Errno::last(),
              fmt::format("mount point {}: {}", quoted(mount_point_.path()), Errno::last().message()));
}

Outcome<void> FuseMount::mount_again(const MountRequest& request) {
  type_ = MountType::kFuseBlock;
  const auto visit = mount_point_.enter();
  if (!visit) return fail(visit.error(), fmt::format("mount namespace: {}", visit.error().message()));
  // The kernel refuses this to mount(2), but not to move_mount(2).
  const auto there = find_mount(mount_point_.path());
  if (there && there->device == source_.device_number()) {
    return fail(Errno(EBUSY), fmt::format("{} is mounted on {} already", quoted(source_.path()),
                                          quoted(mount_point_.path())));
  }
  ASSIGN_OR_RETURN(const UniqueFd mount, create_shared(request));
  RETURN_IF_ERROR(check(mount.get()));
  RETURN_IF_ERROR(check_owner());
  return attach(mount.get());
}

void FuseMount::undo() {
  const UniqueFd mount = std::exchange(mount_, UniqueFd());
  if (!mount) return;
  const UniqueFd descriptors(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const auto visit = mount_point_.enter();
  if (!visit) return;
  // First the connection: the last unmount waits for the server's answer to DESTROY.
  end_connection(device_number_);
  // Nothing can be done about one that somebody has unmounted or covered in the meantime.
  (void)detach(mount.get(), descriptors.get());
}

}  // namespace fuse4fs::helper
