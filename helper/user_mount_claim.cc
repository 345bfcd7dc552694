// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_claim.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "helper/command_line.h"
#include "helper/mount_record.h"
#include "helper/mount_table.h"

namespace fuse4fs::helper {
namespace {

constexpr off_t kBytesOfOneUser = 64;
static_assert(kMostMountsOfOneUser < kBytesOfOneUser);

struct flock lock_of(short type, off_t byte) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

Result<void> wait_for(int file, off_t byte) {
  struct flock lock = lock_of(F_WRLCK, byte);
  while (::fcntl(file, F_OFD_SETLKW, &lock) != 0)
    if (errno != EINTR) return fail_last();
  return {};
}

Result<void> change(int file, short type, off_t byte) {
  struct flock lock = lock_of(type, byte);
  if (::fcntl(file, F_OFD_SETLK, &lock) != 0) return fail_last();
  return {};
}

bool is_free(int file, off_t byte) {
  struct flock lock = lock_of(F_WRLCK, byte);
  return ::fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

}  // namespace

Result<MountClaim> MountClaim::take(UniqueFd file, uid_t user, const std::function<int()>& mounted,
                                    int most) {
  const off_t gate = kBytesOfOneUser * static_cast<off_t>(user);
  RETURN_IF_ERROR(wait_for(file.get(), gate));
  int taken = 0;
  off_t free_place = 0;
  for (off_t place = gate + 1; place <= gate + most; ++place) {
    if (is_free(file.get(), place))
      free_place = place;
    else
      ++taken;
  }
  // In this order: what gives its place back in between is mounted, and counted now.
  if (free_place == 0 || taken + mounted() >= most) return fail(EUSERS);
  RETURN_IF_ERROR(change(file.get(), F_WRLCK, free_place));
  RETURN_IF_ERROR(change(file.get(), F_UNLCK, gate));
  return MountClaim(std::move(file));
}

int count_mounts_of_user(uid_t user) {
  const std::string type(kOwnType);
  const auto mounts = mounts_of_user(user, type);
  const auto has_mount = [&](dev_t device) {
    return std::ranges::find(mounts, device, &MountEntry::device) != mounts.end();
  };
  auto count = static_cast<int>(mounts.size());
  if (const auto records = RecordDirectory::open())
    for (const MountRecord& record : records->living())
      if (record.owner == user && !has_mount(record.device)) ++count;
  return count;
}

}  // namespace fuse4fs::helper
