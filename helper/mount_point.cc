// SPDX-License-Identifier: GPL-2.0-or-later
#include "helper/mount_point.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/quoted.h"

namespace fuse4fs::helper {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
};

Outcome<UniqueFd> open_name_space(const std::string& spec) {
  const bool is_number = std::ranges::all_of(spec, [](char c) { return c >= '0' && c <= '9'; });
  const std::string path = is_number ? fmt::format("/proc/{}/ns/mnt", spec) : spec;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd) return fail(Errno::last(), fmt::format("-N {}: {}", quoted(spec), Errno::last().message()));
  return fd;
}

}  // namespace

NamespaceVisit::~NamespaceVisit() {
  // Nothing but a lost capability can make this fail, and then nothing else would work either.
  if (home_ && ::setns(home_.get(), CLONE_NEWNS) != 0) std::abort();
}

Result<NamespaceVisit> MountPoint::enter() const {
  if (!name_space_) return NamespaceVisit();
  UniqueFd home(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
  if (!home || ::setns(name_space_.get(), CLONE_NEWNS) != 0) return fail_last();
  return NamespaceVisit(std::move(home));
}

Outcome<MountPoint> MountPoint::open(const std::string& path, const std::string& name_space) {
  MountPoint point;
  if (!name_space.empty()) {
    ASSIGN_OR_RETURN(point.name_space_, open_name_space(name_space));
  }
  const auto visit = point.enter();
  if (!visit)
    return fail(visit.error(),
                fmt::format("mount namespace {}: {}", quoted(name_space), visit.error().message()));
  const std::unique_ptr<char, Free> canonical(::realpath(path.c_str(), nullptr));
  if (!canonical)
    return fail(Errno::last(), fmt::format("mount point {}: {}", quoted(path), Errno::last().message()));
  point.path_ = canonical.get();
  point.directory_.reset(::open(canonical.get(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
  struct stat status = {};
  if (!point.directory_ || ::fstat(point.directory_.get(), &status) != 0)
    return fail(Errno::last(), fmt::format("mount point {}: {}", quoted(path), Errno::last().message()));
  if (!S_ISDIR(status.st_mode))
    return fail(Errno(ENOTDIR), fmt::format("mount point {} is not a directory", quoted(path)));
  return point;
}

Outcome<MountPoint> MountPoint::adopt(const std::string& path, int directory) {
  MountPoint point;
  point.path_ = path;
  point.directory_.reset(::fcntl(directory, F_DUPFD_CLOEXEC, 3));
  if (!point.directory_)
    return fail(Errno::last(), fmt::format("mount point {}: {}", quoted(path), Errno::last().message()));
  return point;
}

}  // namespace fuse4fs::helper
