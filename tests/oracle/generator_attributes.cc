// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>

#include "tests/oracle/generator.h"

namespace fuse4fs::oracle {
namespace {

constexpr std::array<std::int64_t, 6> kIds = {-1, 0, 1000, 1001, 1002, 70'000};

}  // namespace

Step Generator::change_mode() {
  Step step{.operation = Operation::kChmod, .who = somebody()};
  aim(step, one_in(4) ? 'd' : 'f');
  // Often usable by everybody, so that not all ends in EACCES.
  step.mode = static_cast<std::uint32_t>(one_in(2) ? below(010000) : 0777 | (one_in(3) ? below(8) << 9 : 0));
  return step;
}

Step Generator::change_owner() {
  Step step{.operation = Operation::kChown, .who = somebody()};
  aim(step, one_in(4) ? 'd' : 'f');
  step.uid = pick(kIds);
  step.gid = pick(kIds);
  if (one_in(3)) step.uid = -1;
  if (one_in(4)) step.flags = AT_SYMLINK_NOFOLLOW;
  return step;
}

timespec Generator::some_time() {
  // The ends of what the epoch bits can say, and beyond: before 1901, after 2038, 2106, 2446.
  constexpr std::array<std::int64_t, 14> kSeconds = {0,
                                                     1,
                                                     -1,
                                                     -2'147'483'648,
                                                     -2'147'483'649,
                                                     2'147'483'647,
                                                     2'147'483'648,
                                                     4'294'967'295,
                                                     4'294'967'296,
                                                     6'442'450'943,
                                                     10'737'418'240,
                                                     15'032'385'535,
                                                     15'032'385'536,
                                                     99'999'999'999};
  constexpr std::array<long, 4> kNanoseconds = {0, 1, 999'999'999, 123'456'789};
  if (one_in(5)) return {0, UTIME_OMIT};
  if (one_in(8)) return {0, UTIME_NOW};
  const std::int64_t seconds = one_in(2) ? pick(kSeconds) : static_cast<std::int64_t>(below(1'500'000'000));
  return {seconds, pick(kNanoseconds)};
}

Step Generator::set_times() {
  Step step{.operation = Operation::kTimes, .who = somebody()};
  aim(step, one_in(4) ? 'd' : 'f');
  step.accessed = some_time();
  step.modified = some_time();
  if (one_in(8)) step.accessed.tv_nsec = step.modified.tv_nsec = UTIME_NOW;
  if (one_in(4)) step.flags = AT_SYMLINK_NOFOLLOW;
  // What does not count is not kept, so that a step's text says all of it.
  for (timespec* time : {&step.accessed, &step.modified})
    if (time->tv_nsec == UTIME_NOW || time->tv_nsec == UTIME_OMIT) time->tv_sec = 0;
  return step;
}

Step Generator::may_access() {
  Step step{.operation = Operation::kAccess, .who = somebody(), .path = some(one_in(3) ? 'd' : 'f')};
  step.mode = static_cast<std::uint32_t>(below(8));
  step.flags = one_in(3) ? AT_EACCESS : 0;
  return step;
}

Step Generator::status() {
  Step step{.operation = Operation::kStat, .who = somebody()};
  aim(step, pick(std::string("ffdls")));
  step.flags = AT_SYMLINK_NOFOLLOW;
  return step;
}

Step Generator::volume() { return {.operation = Operation::kStatfs, .path = "."}; }

std::string Generator::xattr_name() {
  const std::string prefix =
      pick(std::array<std::string, 6>{"user.", "user.", "user.", "trusted.", "security.", "user."});
  if (prefix == "security." && one_in(2)) return "security.capability";
  if (one_in(40)) return pick(std::array<std::string, 4>{"nothing.here", "user.", "system.other", "plain"});
  if (one_in(20)) return prefix + std::string(230 + below(28), 'x');  // 255 is the most
  return prefix + std::string(1, "abcdef"[below(6)]);
}

Step Generator::set_xattr() {
  Step step{.operation = Operation::kSetXattr, .who = somebody()};
  aim(step, pick(std::string("fffdls")));
  step.name = xattr_name();
  // In the inode, in the block, beyond the block.
  step.length = static_cast<std::int64_t>(below(std::uint64_t{1} << (1 + below(one_in(6) ? 14 : 9))));
  step.seed = static_cast<std::uint32_t>(below(50));
  step.flags = one_in(5) ? XATTR_CREATE : one_in(5) ? XATTR_REPLACE : 0;
  return step;
}

Step Generator::get_xattr() {
  Step step{.operation = Operation::kGetXattr, .who = somebody()};
  aim(step, 'f');
  step.name = xattr_name();
  step.length = static_cast<std::int64_t>(one_in(3) ? below(64) : 65536);  // ERANGE, or the length for 0
  return step;
}

Step Generator::list_xattrs() {
  Step step{.operation = Operation::kListXattr, .who = somebody()};
  aim(step, 'f');
  step.length = static_cast<std::int64_t>(one_in(3) ? below(64) : 65536);
  return step;
}

Step Generator::remove_xattr() {
  Step step{.operation = Operation::kRemoveXattr, .who = somebody()};
  aim(step, 'f');
  step.name = xattr_name();
  return step;
}

std::string Generator::acl_text() {
  std::string text = fmt::format("u::{}", below(8));
  bool named = false;
  for (const unsigned uid : {1000, 1001})
    if (one_in(2)) {
      text += fmt::format(",u:{}:{}", uid, below(8));
      named = true;
    }
  text += fmt::format(",g::{}", below(8));
  if (one_in(3)) {
    text += fmt::format(",g:1000:{}", below(8));
    named = true;
  }
  if (named || one_in(3)) text += fmt::format(",m::{}", below(8));
  text += fmt::format(",o::{}", below(8));
  if (one_in(25)) text += ",o::0";        // twice: EINVAL
  if (one_in(25)) text = text.substr(6);  // no owner: EINVAL
  if (one_in(30)) text.clear();           // takes it away
  return text;
}

Step Generator::set_acl() {
  Step step{.operation = Operation::kSetAcl, .who = somebody()};
  const bool standard = one_in(2);
  aim(step, standard ? 'd' : 'f');
  step.name = standard ? "system.posix_acl_default" : "system.posix_acl_access";
  step.value = acl_text();
  return step;
}

Step Generator::drop_acl() {
  Step step{.operation = Operation::kRemoveXattr, .who = somebody()};
  const bool standard = one_in(2);
  aim(step, standard ? 'd' : 'f');
  step.name = standard ? "system.posix_acl_default" : "system.posix_acl_access";
  return step;
}

Step Generator::get_flags() {
  Step step{.operation = Operation::kGetFlags, .who = somebody()};
  aim(step, one_in(4) ? 'd' : 'f');
  return step;
}

Step Generator::set_flags() {
  constexpr std::array<std::int64_t, 10> kFlags = {0,
                                                   FS_APPEND_FL,
                                                   FS_IMMUTABLE_FL,
                                                   FS_NODUMP_FL,
                                                   FS_NOATIME_FL,
                                                   FS_SYNC_FL,
                                                   FS_DIRSYNC_FL,
                                                   FS_TOPDIR_FL,
                                                   FS_NODUMP_FL | FS_NOATIME_FL,
                                                   FS_PROJINHERIT_FL};
  Step step{.operation = Operation::kSetFlags, .who = one_in(4) ? somebody() : 0};
  step.path = some(one_in(3) ? 'd' : 'f');
  if (step.path == ".") step.path = some('f');
  step.number = pick(kFlags);
  if (step.number == FS_PROJINHERIT_FL && !classes_.contains(Class::kProjects)) step.number = 0;
  return step;
}

Step Generator::get_project() {
  Step step{.operation = Operation::kGetProject, .who = somebody()};
  aim(step, one_in(4) ? 'd' : 'f');
  return step;
}

Step Generator::set_project() {
  Step step{.operation = Operation::kSetProject, .who = one_in(4) ? somebody() : 0};
  aim(step, one_in(4) ? 'd' : 'f');
  step.number = static_cast<std::int64_t>(below(4) * 7);
  return step;
}

}  // namespace fuse4fs::oracle
