// SPDX-License-Identifier: GPL-2.0-or-later
// One random operation as data, with a form of one line that can be read back.
//
// A step means the same on any mount: paths are relative to the mount's root, contents come from a seed.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fuse4fs::oracle {

enum class Operation {
  kAccess,
  kCheck,  // compares everything
  kChmod,
  kChown,
  kClose,
  kCopy,
  kCreate,
  kDropCaches,
  kFallocate,
  kFsync,
  kGetFlags,
  kGetProject,
  kGetXattr,
  kLink,
  kLinkSlot,
  kList,
  kListXattr,
  kMkdir,
  kMknod,
  kOpen,
  kRead,
  kReadlink,
  kRemount,
  kRemoveXattr,
  kRename,
  kRmdir,
  kSeek,
  kSetAcl,
  kSetFlags,
  kSetProject,
  kSetXattr,
  kStat,
  kStatfs,
  kSwap,
  kSymlink,
  kTimes,
  kTmpfile,
  kTruncate,
  kUnlink,
  kWrite,
  kCount,
};

inline constexpr int kSlots = 6;  // files that stay open over steps
inline constexpr int kActors = 4;

// Who does it. All four may be in the same group, or not; see executor.cc.
struct Step {
  Operation operation = Operation::kStat;
  int who = 0;          // 0: root
  int slot = -1;        // of an open file; -1: by path
  std::string path{};   // "." is the root
  std::string other{};  // rename, link, copy: the second path
  std::string name{};   // of an xattr
  std::string value{};  // symlink: target; ACL: its entries, "u::7,u:1000:5,g::5,m::5,o::0"
  std::int64_t offset = 0, length = 0;
  std::uint64_t flags = 0;  // of the system call
  std::uint32_t mode = 0;
  std::uint32_t seed = 0;   // of contents
  std::int64_t number = 0;  // rdev, project id, inode flags, a copy's second offset
  std::int64_t uid = -1, gid = -1;
  timespec accessed{0, kOmit}, modified{0, kOmit};

  static constexpr long kOmit = (1L << 30) - 2;
};

std::string to_text(const Step& step);
// Nothing for a line that is none.
std::optional<Step> parse_step(std::string_view line);
std::string_view name_of(Operation operation);

// `length` bytes that are the same on both sides.
std::string bytes_from(std::uint32_t seed, std::size_t length);

}  // namespace fuse4fs::oracle
