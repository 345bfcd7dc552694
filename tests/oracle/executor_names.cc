// SPDX-License-Identifier: GPL-2.0-or-later
// Names: directories, links, special files, what open(2) makes.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <set>

#include "tests/oracle/executor.h"

namespace fuse4fs::oracle {
namespace {

Returned plain(int returned, const char* call) { return returned == 0 ? done() : failed(call); }

Returned create(const Step& step, OpenFiles&) {
  const UniqueFd file(
      ::open(step.path.c_str(), static_cast<int>(step.flags) | O_CREAT | O_NONBLOCK | O_CLOEXEC, step.mode));
  return file ? done() : failed("open");
}

// O_TMPFILE too: then the path is its directory's.
Returned open_slot(const Step& step, OpenFiles& files, int more) {
  UniqueFd& slot = files.slots[static_cast<std::size_t>(step.slot)];
  slot.reset();
  slot.reset(::open(step.path.c_str(), static_cast<int>(step.flags) | more | O_CLOEXEC, step.mode));
  return slot ? done() : failed("open");
}
Returned open_file(const Step& step, OpenFiles& files) { return open_slot(step, files, O_NONBLOCK); }
Returned open_temporary(const Step& step, OpenFiles& files) { return open_slot(step, files, O_TMPFILE); }

Returned close_file(const Step& step, OpenFiles& files) {
  UniqueFd& slot = files.slots[static_cast<std::size_t>(step.slot)];
  if (!slot) return done();
  return plain(::close(slot.release()), "close");
}

Returned link_slot(const Step& step, OpenFiles& files) {
  const int fd = files.slots[static_cast<std::size_t>(step.slot)].get();
  return plain(::linkat(fd, "", AT_FDCWD, step.path.c_str(), AT_EMPTY_PATH), "linkat");
}

Returned make_directory(const Step& step, OpenFiles&) {
  return plain(::mkdir(step.path.c_str(), step.mode), "mkdir");
}
Returned remove_directory(const Step& step, OpenFiles&) { return plain(::rmdir(step.path.c_str()), "rmdir"); }
Returned unlink_name(const Step& step, OpenFiles&) { return plain(::unlink(step.path.c_str()), "unlink"); }
Returned rename_name(const Step& step, OpenFiles&) {
  return plain(::renameat2(AT_FDCWD, step.path.c_str(), AT_FDCWD, step.other.c_str(),
                           static_cast<unsigned>(step.flags)),
               "renameat2");
}
Returned link_name(const Step& step, OpenFiles&) {
  return plain(
      ::linkat(AT_FDCWD, step.path.c_str(), AT_FDCWD, step.other.c_str(), static_cast<int>(step.flags)),
      "linkat");
}
Returned make_symlink(const Step& step, OpenFiles&) {
  return plain(::symlink(step.value.c_str(), step.path.c_str()), "symlink");
}
Returned make_node(const Step& step, OpenFiles&) {
  return plain(::mknod(step.path.c_str(), step.mode, static_cast<dev_t>(step.number)), "mknod");
}

Returned read_link(const Step& step, OpenFiles&) {
  std::string target(8192, '\0');
  const ssize_t length = ::readlink(step.path.c_str(), target.data(), target.size());
  if (length < 0) return failed("readlink");
  target.resize(static_cast<std::size_t>(length));
  return done(length, target);
}

// As a set: the order of two directories' hashes may differ.
Returned list(const Step& step, OpenFiles&) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(step.path.c_str()), ::closedir);
  if (directory == nullptr) return failed("opendir");
  std::multiset<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(directory.get()))
    names.insert(fmt::format("{} {}\n", static_cast<int>(entry->d_type), entry->d_name));
  if (errno != 0) return failed("readdir");
  std::string all;
  for (const std::string& name : names) all += name;
  return done(static_cast<std::int64_t>(names.size()), all);
}

}  // namespace

Execute name_operation(Operation operation) {
  switch (operation) {
    case Operation::kCreate:
      return create;
    case Operation::kOpen:
      return open_file;
    case Operation::kTmpfile:
      return open_temporary;
    case Operation::kClose:
      return close_file;
    case Operation::kLinkSlot:
      return link_slot;
    case Operation::kMkdir:
      return make_directory;
    case Operation::kRmdir:
      return remove_directory;
    case Operation::kUnlink:
      return unlink_name;
    case Operation::kRename:
      return rename_name;
    case Operation::kLink:
      return link_name;
    case Operation::kSymlink:
      return make_symlink;
    case Operation::kMknod:
      return make_node;
    case Operation::kReadlink:
      return read_link;
    case Operation::kList:
      return list;
    default:
      return nullptr;
  }
}

}  // namespace fuse4fs::oracle
