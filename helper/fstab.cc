// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/fstab.h"

#include <libmount/libmount.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

namespace fuse4fs::helper {
namespace {

// Not libmount's default, which an environment variable can change.
constexpr char kFstab[] = "/etc/fstab";

struct Free {
  void operator()(char* text) const { std::free(text); }
  void operator()(libmnt_table* table) const { mnt_unref_table(table); }
  void operator()(libmnt_iter* iterator) const { mnt_free_iter(iterator); }
};

std::string text_of(const char* text) { return text == nullptr ? "" : text; }

int leave_out(libmnt_table*, const char*, int) { return 1; }

}  // namespace

Result<std::vector<FstabLine>> read_fstab() {
  std::vector<FstabLine> lines;
  if (::access(kFstab, R_OK) != 0) {
    if (errno == ENOENT) return lines;
    return fail_last();
  }
  const std::unique_ptr<libmnt_table, Free> table(mnt_new_table());
  const std::unique_ptr<libmnt_iter, Free> iterator(mnt_new_iter(MNT_ITER_FORWARD));
  if (!table || !iterator) return fail(ENOMEM);
  mnt_table_set_parser_errcb(table.get(), leave_out);
  if (mnt_table_parse_file(table.get(), kFstab) != 0) return fail(EIO);
  libmnt_fs* entry = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &entry) == 0) {
    lines.push_back({.source = text_of(mnt_fs_get_source(entry)),
                     .target = text_of(mnt_fs_get_target(entry)),
                     .type = text_of(mnt_fs_get_fstype(entry)),
                     .options = text_of(mnt_fs_get_options(entry))});
  }
  return lines;
}

std::string meaning_of_source(const std::string& source) {
  const std::unique_ptr<char, Free> path(mnt_resolve_spec(source.c_str(), nullptr));
  return path && *path == '/' ? std::string(path.get()) : std::string();
}

}  // namespace fuse4fs::helper
