// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/user_mount_table.h"

#include <libmount/libmount.h>

#include <charconv>
#include <memory>
#include <string_view>
#include <vector>

#include "helper/command_line.h"

namespace fuse4fs::helper {
namespace {

struct Free {
  void operator()(libmnt_table* table) const { mnt_unref_table(table); }
  void operator()(libmnt_iter* iterator) const { mnt_free_iter(iterator); }
};

struct UserMount {
  std::string mount_point;
  std::string type;
  uid_t user = 0;
};

uid_t user_in(const char* options) {
  char* value = nullptr;
  std::size_t length = 0;
  uid_t user = 0;
  if (options != nullptr && mnt_optstr_get_option(options, "user_id", &value, &length) == 0)
    std::from_chars(value, value + length, user);
  return user;
}

// In the order in which they were mounted, others' mounts too.
std::vector<UserMount> all_mounts() {
  std::vector<UserMount> mounts;
  const std::unique_ptr<libmnt_table, Free> table(mnt_new_table());
  const std::unique_ptr<libmnt_iter, Free> iterator(mnt_new_iter(MNT_ITER_FORWARD));
  if (!table || !iterator || mnt_table_parse_file(table.get(), "/proc/thread-self/mountinfo") != 0)
    return mounts;
  const auto text = [](const char* field) { return std::string(field == nullptr ? "" : field); };
  libmnt_fs* entry = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &entry) == 0) {
    mounts.push_back({.mount_point = text(mnt_fs_get_target(entry)),
                      .type = text(mnt_fs_get_fstype(entry)),
                      .user = user_in(mnt_fs_get_fs_options(entry))});
  }
  return mounts;
}

bool is_ours(const UserMount& mount) {
  return mount.type == "fuseblk." + std::string(kOwnType) || mount.type == "fuse." + std::string(kOwnType);
}

}  // namespace

std::optional<uid_t> user_of_mount(const std::string& path) {
  std::optional<UserMount> topmost;
  for (UserMount& mount : all_mounts())
    if (mount.mount_point == path) topmost = std::move(mount);
  if (!topmost || !is_ours(*topmost)) return std::nullopt;
  return topmost->user;
}

int count_mounts_of_user(uid_t user) {
  int count = 0;
  for (const UserMount& mount : all_mounts()) count += is_ours(mount) && mount.user == user ? 1 : 0;
  return count;
}

}  // namespace fuse4fs::helper
