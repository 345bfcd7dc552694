// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_table.h"

#include <libmount/libmount.h>
#include <stdlib.h>

#include <cstdlib>
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

std::string text_of(const char* text) { return text == nullptr ? "" : text; }

// The last mount for which `fits` holds.
template <class Fits>
std::optional<MountEntry> find_last(Fits fits) {
  const std::unique_ptr<libmnt_table, Free> table(mnt_new_table());
  const std::unique_ptr<libmnt_iter, Free> iterator(mnt_new_iter(MNT_ITER_BACKWARD));
  if (!table || !iterator || mnt_table_parse_file(table.get(), "/proc/self/mountinfo") != 0)
    return std::nullopt;
  libmnt_fs* entry = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &entry) == 0) {
    if (!fits(entry)) continue;
    return MountEntry{
        .mount_point = text_of(mnt_fs_get_target(entry)),
        .type = text_of(mnt_fs_get_fstype(entry)),
        .device = mnt_fs_get_devno(entry),
        .flags = flags_in(mnt_fs_get_vfs_options(entry)) | flags_in(mnt_fs_get_fs_options(entry))};
  }
  return std::nullopt;
}

}  // namespace

std::optional<MountEntry> find_mount(const std::string& path) {
  return find_last([&](libmnt_fs* entry) { return text_of(mnt_fs_get_target(entry)) == path; });
}

std::optional<std::string> mount_point_of(dev_t device, const std::string& source) {
  const auto entry = find_last([&](libmnt_fs* candidate) {
    return mnt_fs_get_devno(candidate) == device || text_of(mnt_fs_get_srcpath(candidate)) == source;
  });
  if (!entry) return std::nullopt;
  return entry->mount_point;
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
