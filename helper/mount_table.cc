// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_table.h"

#include <libmount/libmount.h>
#include <stdlib.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string_view>

#include "helper/mount_options.h"

namespace fuse4fs::helper {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
  void operator()(libmnt_table* table) const { mnt_unref_table(table); }
  void operator()(libmnt_iter* iterator) const { mnt_free_iter(iterator); }
};

unsigned long flags_in(const char* options) {
  unsigned long flags = 0;
  std::string_view rest = options == nullptr ? "" : options;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    if (const auto flag = flag_of_name(rest.substr(0, comma))) flags |= *flag;
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return flags;
}

uid_t user_in(const char* options) {
  char* value = nullptr;
  std::size_t length = 0;
  uid_t user = 0;
  if (options != nullptr && mnt_optstr_get_option(options, "user_id", &value, &length) == 0)
    std::from_chars(value, value + length, user);
  return user;
}

std::string text_of(const char* text) { return text == nullptr ? "" : text; }

MountEntry entry_of(libmnt_fs* fs) {
  return {.mount_point = text_of(mnt_fs_get_target(fs)),
          .type = text_of(mnt_fs_get_fstype(fs)),
          .device = mnt_fs_get_devno(fs),
          .flags = flags_in(mnt_fs_get_vfs_options(fs)) | flags_in(mnt_fs_get_fs_options(fs)),
          .id = mnt_fs_get_id(fs),
          .parent = mnt_fs_get_parent_id(fs),
          .user = user_in(mnt_fs_get_fs_options(fs))};
}

// All mounts for which `fits` holds, the last ones first; `most` at most.
template <class Fits>
std::vector<MountEntry> find_last(Fits fits, std::size_t most) {
  std::vector<MountEntry> found;
  const std::unique_ptr<libmnt_table, Free> table(mnt_new_table());
  const std::unique_ptr<libmnt_iter, Free> iterator(mnt_new_iter(MNT_ITER_BACKWARD));
  if (!table || !iterator || mnt_table_parse_file(table.get(), "/proc/thread-self/mountinfo") != 0)
    return found;
  libmnt_fs* entry = nullptr;
  while (found.size() < most && mnt_table_next_fs(table.get(), iterator.get(), &entry) == 0)
    if (fits(entry)) found.push_back(entry_of(entry));
  return found;
}

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

}  // namespace

std::optional<MountEntry> find_mount(const std::string& path) {
  const auto found =
      find_last([&](libmnt_fs* entry) { return text_of(mnt_fs_get_target(entry)) == path; }, 1);
  if (found.empty()) return std::nullopt;
  return found.front();
}

std::optional<MountEntry> mount_with_id(int id) {
  const auto found = find_last([&](libmnt_fs* entry) { return mnt_fs_get_id(entry) == id; }, 1);
  if (found.empty()) return std::nullopt;
  return found.front();
}

std::vector<MountEntry> mounts_of_user(uid_t user, const std::string& subtype) {
  return find_last(
      [&](libmnt_fs* entry) {
        const MountEntry mount = entry_of(entry);
        return mount.user == user && has_type(mount, subtype);
      },
      kAll);
}

std::vector<MountEntry> mounts_of(dev_t device, const std::string& subtype) {
  auto found = find_last(
      [&](libmnt_fs* entry) {
        return mnt_fs_get_devno(entry) == device && has_type(entry_of(entry), subtype);
      },
      kAll);
  std::ranges::reverse(found);
  return found;
}

std::vector<MountEntry> mounts_on(int id) {
  return find_last([&](libmnt_fs* entry) { return mnt_fs_get_parent_id(entry) == id; }, kAll);
}

std::optional<std::string> mount_point_of(dev_t device, const std::string& source) {
  const auto found = find_last(
      [&](libmnt_fs* candidate) {
        return mnt_fs_get_devno(candidate) == device || text_of(mnt_fs_get_srcpath(candidate)) == source;
      },
      1);
  if (found.empty()) return std::nullopt;
  return found.front().mount_point;
}

std::optional<MountEntry> whole_mount_of_type(const std::string& type) {
  const auto found = find_last(
      [&](libmnt_fs* entry) {
        return text_of(mnt_fs_get_fstype(entry)) == type && text_of(mnt_fs_get_root(entry)) == "/";
      },
      kAll);
  if (found.empty()) return std::nullopt;
  return found.back();
}

std::optional<std::string> spell_out(const std::string& path) {
  std::string_view trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.remove_suffix(1);
  const auto slash = trimmed.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return std::nullopt;
  std::string before = ".";
  if (slash == 0) before = "/";
  if (slash != std::string_view::npos && slash != 0) before = std::string(trimmed.substr(0, slash));
  const std::unique_ptr<char, Free> parent(::realpath(before.c_str(), nullptr));
  if (!parent) return std::nullopt;
  const std::string directory = parent.get();
  return (directory == "/" ? "" : directory) + "/" + std::string(name);
}

bool has_type(const MountEntry& entry, const std::string& subtype) {
  return entry.type == "fuseblk." + subtype || entry.type == "fuse." + subtype;
}

}  // namespace fuse4fs::helper
