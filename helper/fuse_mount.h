// SPDX-License-Identifier: GPL-2.0-or-later
// One mount, from fsopen to move_mount, and its undoing.
//
// Nothing here waits for the server: it answers INIT only after its request to mount has been answered, and a
// hostile one never.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "helper/fs_context.h"
#include "helper/mount_point.h"
#include "helper/source.h"

namespace fuse4fs::helper {

enum class MountType { kFuse, kFuseBlock };

// What user and server agreed on.
struct MountRequest {
  MountType type = MountType::kFuseBlock;
  unsigned long flags = 0;       // MS_*
  std::uint32_t block_size = 0;  // 0: the kernel's default
  std::uint32_t max_read = 0;    // 0: the kernel's default
  std::string source = {};       // kFuse: what the mount table shows; empty: the device
  std::uint64_t root_node = 0;   // how the kernel calls the root; 0: the default, 1
  friend bool operator==(const MountRequest&, const MountRequest&) = default;
};

// user_id= and group_id= of the mount. They decide nothing about files (allow_other, default_permissions):
// they tell umount(8) who may unmount it, and give that user the connection's "abort" below /sys/fs/fuse.
struct MountOwner {
  uid_t user = 0;
  gid_t group = 0;
};

// The server that is about to be told of the end may still hold /dev/fuse: undo() does not need it dead.
class FuseMount {
 public:
  // `source`, `mount_point` and the borrowed `fuse_device` must outlive this. `subtype`: what follows
  // "fuseblk.".
  FuseMount(std::string subtype, Source& source, const MountPoint& mount_point, int fuse_device,
            MountOwner owner = {})
      : subtype_(std::move(subtype)),
        source_(source),
        mount_point_(mount_point),
        fuse_device_(fuse_device),
        owner_(owner) {}

  // Called by mount() when all but the attaching is done, with the mount that is attached nowhere yet.
  void before_attaching(std::function<void(int mount)> action) { before_attaching_ = std::move(action); }
  // Gives up the claim on the device to the kernel. On failure nothing is left of the mount. Once.
  Outcome<void> mount(const MountRequest& request);
  // In place of mount(), for a device that is mounted already by a server of this type: its superblock once
  // more, with the flags of the request, as the kernel does it for its own file systems. EBUSY if only one of
  // the two is read-only, or if it is mounted at this very place; EPERM if its owner is another one, for the
  // kernel has one owner a superblock; EAGAIN if it is mounted no more. The source is not claimed.
  // `fuse_device` may be used up by it, whatever comes of it.
  Outcome<void> mount_again(const MountRequest& request);
  // Takes away that very mount again, whatever the server does, and wherever its path leads by now.
  void undo();

  [[nodiscard]] bool attached() const { return static_cast<bool>(mount_); }
  [[nodiscard]] dev_t device_number() const { return device_number_; }
  [[nodiscard]] MountType type() const { return type_; }

 private:
  [[nodiscard]] FsContext configure(const MountRequest& request) const;
  Outcome<UniqueFd> create(const MountRequest& request);
  Outcome<UniqueFd> create_shared(const MountRequest& request);
  [[nodiscard]] Outcome<void> attach(int mount) const;
  Outcome<void> check(int mount);
  [[nodiscard]] Outcome<void> check_owner() const;

  std::string subtype_;
  Source& source_;
  const MountPoint& mount_point_;
  int fuse_device_;
  MountOwner owner_;
  MountType type_ = MountType::kFuseBlock;
  dev_t device_number_ = 0;
  UniqueFd mount_;  // while it is attached, for undo()
  std::function<void(int mount)> before_attaching_;
};

// MOUNT_ATTR_* for MS_*; relatime where neither noatime nor strictatime is asked for.
unsigned mount_attributes(unsigned long flags);

}  // namespace fuse4fs::helper
