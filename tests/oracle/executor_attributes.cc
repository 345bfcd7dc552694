// SPDX-License-Identifier: GPL-2.0-or-later
// Attributes: modes, owners, times, xattrs, ACLs, inode flags, project ids, figures of the volume.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <sstream>
#include <vector>

#include "tests/oracle/differences.h"
#include "tests/oracle/executor.h"
#include "tests/oracle/snapshot.h"

namespace fuse4fs::oracle {
namespace {

Returned plain(int returned, const char* call) { return returned == 0 ? done() : failed(call); }
int slot_of(const Step& step, const OpenFiles& files) {
  return files.slots[static_cast<std::size_t>(step.slot)].get();
}

Returned change_mode(const Step& step, OpenFiles& files) {
  if (step.slot >= 0) return plain(::fchmod(slot_of(step, files), step.mode), "fchmod");
  return plain(::chmod(step.path.c_str(), step.mode), "chmod");
}

Returned change_owner(const Step& step, OpenFiles& files) {
  const auto uid = static_cast<uid_t>(step.uid);
  const auto gid = static_cast<gid_t>(step.gid);
  if (step.slot >= 0) return plain(::fchown(slot_of(step, files), uid, gid), "fchown");
  return plain(::fchownat(AT_FDCWD, step.path.c_str(), uid, gid, static_cast<int>(step.flags)), "fchownat");
}

Returned set_times(const Step& step, OpenFiles& files) {
  const std::array<timespec, 2> times = {step.accessed, step.modified};
  if (step.slot >= 0) return plain(::futimens(slot_of(step, files), times.data()), "futimens");
  return plain(::utimensat(AT_FDCWD, step.path.c_str(), times.data(), static_cast<int>(step.flags)),
               "utimensat");
}

Returned may_access(const Step& step, OpenFiles&) {
  return plain(
      ::faccessat(AT_FDCWD, step.path.c_str(), static_cast<int>(step.mode), static_cast<int>(step.flags)),
      "faccessat");
}

Returned status(const Step& step, OpenFiles& files) {
  struct stat found{};
  const int returned = step.slot >= 0
                           ? ::fstat(slot_of(step, files), &found)
                           : ::fstatat(AT_FDCWD, step.path.c_str(), &found, static_cast<int>(step.flags));
  if (returned != 0) return failed("fstatat");
  std::string text = fmt::format("mode {:o} links {} owner {}:{} rdev {:#x} blksize {}", found.st_mode,
                                 found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, found.st_blksize);
  if (!S_ISDIR(found.st_mode)) text += fmt::format(" size {}", found.st_size);
  return done(0, text);
}

Returned set_value(const Step& step, OpenFiles& files, const std::string& name, const std::string& value) {
  const int flags = static_cast<int>(step.flags);
  if (step.slot >= 0)
    return plain(::fsetxattr(slot_of(step, files), name.c_str(), value.data(), value.size(), flags),
                 "fsetxattr");
  return plain(::lsetxattr(step.path.c_str(), name.c_str(), value.data(), value.size(), flags), "lsetxattr");
}

// A file capability has a fixed form; anything else is bytes.
Returned set_xattr(const Step& step, OpenFiles& files) {
  if (step.name == "security.capability") {
    const std::array<std::uint32_t, 5> capability = {0x02000001, 1U << (step.seed % 32), 0, 0, 0};
    std::string value(sizeof(capability), '\0');
    std::memcpy(value.data(), capability.data(), value.size());
    return set_value(step, files, step.name, value);
  }
  return set_value(step, files, step.name, bytes_from(step.seed, static_cast<std::size_t>(step.length)));
}

// "u::7,u:1000:5,g::5,m::5,o::0" in the form of the system call.
Returned set_acl(const Step& step, OpenFiles& files) {
  std::string value(sizeof(posix_acl_xattr_header), '\0');
  const posix_acl_xattr_header header{.a_version = POSIX_ACL_XATTR_VERSION};
  std::memcpy(value.data(), &header, sizeof(header));
  std::istringstream entries(step.value);
  for (std::string entry; std::getline(entries, entry, ',');) {
    const auto first = entry.find(':'), second = entry.rfind(':');
    if (first == std::string::npos || first == second) continue;
    const std::string id = entry.substr(first + 1, second - first - 1);
    posix_acl_xattr_entry raw{.e_tag = 0, .e_perm = 0, .e_id = static_cast<std::uint32_t>(ACL_UNDEFINED_ID)};
    switch (entry[0]) {
      case 'u':
        raw.e_tag = id.empty() ? ACL_USER_OBJ : ACL_USER;
        break;
      case 'g':
        raw.e_tag = id.empty() ? ACL_GROUP_OBJ : ACL_GROUP;
        break;
      case 'm':
        raw.e_tag = ACL_MASK;
        break;
      default:
        raw.e_tag = ACL_OTHER;
        break;
    }
    if (!id.empty()) std::from_chars(id.data(), id.data() + id.size(), raw.e_id);
    std::from_chars(entry.data() + second + 1, entry.data() + entry.size(), raw.e_perm);
    value.append(reinterpret_cast<const char*>(&raw), sizeof(raw));
  }
  return set_value(step, files, step.name, value);
}

Returned get_xattr(const Step& step, OpenFiles& files) {
  std::string value(static_cast<std::size_t>(step.length), '\0');
  const ssize_t length =
      step.slot >= 0 ? ::fgetxattr(slot_of(step, files), step.name.c_str(), value.data(), value.size())
                     : ::lgetxattr(step.path.c_str(), step.name.c_str(), value.data(), value.size());
  if (length < 0) return failed("getxattr");
  value.resize(std::min(value.size(), static_cast<std::size_t>(length)));
  return done(length, value);
}

// As a set: ext4 lists in the order of its own storage.
Returned list_xattrs(const Step& step, OpenFiles& files) {
  std::string names(static_cast<std::size_t>(step.length), '\0');
  const ssize_t length = step.slot >= 0 ? ::flistxattr(slot_of(step, files), names.data(), names.size())
                                        : ::llistxattr(step.path.c_str(), names.data(), names.size());
  if (length < 0) return failed("listxattr");
  names.resize(std::min(names.size(), static_cast<std::size_t>(length)));
  return done(length, sorted_names(names));
}

Returned remove_xattr(const Step& step, OpenFiles& files) {
  if (step.slot >= 0) return plain(::fremovexattr(slot_of(step, files), step.name.c_str()), "fremovexattr");
  return plain(::lremovexattr(step.path.c_str(), step.name.c_str()), "lremovexattr");
}

Returned get_flags(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_RDONLY | O_NONBLOCK);
  if (target.get() < 0) return failed("open");
  int flags = 0;
  if (::ioctl(target.get(), FS_IOC_GETFLAGS, &flags) != 0) return failed("FS_IOC_GETFLAGS");
  struct stat status{};
  ::fstat(target.get(), &status);
  return done(comparable_flags(static_cast<std::uint32_t>(flags), status.st_mode));
}

// `number`: the flags wanted, of those that users may change. Forms of storage (extents, inline data) stay.
Returned set_flags(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_RDONLY | O_NONBLOCK);
  if (target.get() < 0) return failed("open");
  int flags = 0;
  if (::ioctl(target.get(), FS_IOC_GETFLAGS, &flags) != 0) return failed("FS_IOC_GETFLAGS");
  constexpr int kForm = FS_EXTENT_FL | FS_INLINE_DATA_FL | FS_INDEX_FL | FS_HUGE_FILE_FL;
  flags = (flags & kForm) | static_cast<int>(step.number);
  return plain(::ioctl(target.get(), FS_IOC_SETFLAGS, &flags), "FS_IOC_SETFLAGS");
}

Returned get_project(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_RDONLY | O_NONBLOCK);
  if (target.get() < 0) return failed("open");
  fsxattr attributes{};
  if (::ioctl(target.get(), FS_IOC_FSGETXATTR, &attributes) != 0) return failed("FS_IOC_FSGETXATTR");
  return done(attributes.fsx_projid,
              fmt::format("xflags {:#x} extsize {} cowextsize {}", attributes.fsx_xflags,
                          attributes.fsx_extsize, attributes.fsx_cowextsize));
}

Returned set_project(const Step& step, OpenFiles& files) {
  const Target target(step, files, O_RDONLY | O_NONBLOCK);
  if (target.get() < 0) return failed("open");
  fsxattr attributes{};
  if (::ioctl(target.get(), FS_IOC_FSGETXATTR, &attributes) != 0) return failed("FS_IOC_FSGETXATTR");
  attributes.fsx_projid = static_cast<std::uint32_t>(step.number);
  return plain(::ioctl(target.get(), FS_IOC_FSSETXATTR, &attributes), "FS_IOC_FSSETXATTR");
}

// Free figures move behind the back of both sides (delayed allocation, late FORGETs): whole checks look at
// those.
Returned volume(const Step& step, OpenFiles&) {
  struct statfs figures{};
  if (::statfs(step.path.c_str(), &figures) != 0) return failed("statfs");
  return done(0, fmt::format("bsize {} frsize {} blocks {} files {} namelen {}", figures.f_bsize,
                             figures.f_frsize, figures.f_blocks, figures.f_files, figures.f_namelen));
}

}  // namespace

Execute attribute_operation(Operation operation) {
  switch (operation) {
    case Operation::kAccess:
      return may_access;
    case Operation::kChmod:
      return change_mode;
    case Operation::kChown:
      return change_owner;
    case Operation::kTimes:
      return set_times;
    case Operation::kStat:
      return status;
    case Operation::kStatfs:
      return volume;
    case Operation::kSetXattr:
      return set_xattr;
    case Operation::kGetXattr:
      return get_xattr;
    case Operation::kListXattr:
      return list_xattrs;
    case Operation::kRemoveXattr:
      return remove_xattr;
    case Operation::kSetAcl:
      return set_acl;
    case Operation::kGetFlags:
      return get_flags;
    case Operation::kSetFlags:
      return set_flags;
    case Operation::kGetProject:
      return get_project;
    case Operation::kSetProject:
      return set_project;
    default:
      return nullptr;
  }
}

}  // namespace fuse4fs::oracle
