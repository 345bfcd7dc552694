// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/differences.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <limits>

namespace fuse4fs::oracle {
namespace {

constexpr std::int64_t kPage = 4096;

// Equal on both sides again, whatever they were.
Step set_times(int slot, const std::string& path, std::uint64_t flags) {
  Step repair{.operation = Operation::kTimes, .slot = slot, .path = path, .flags = flags};
  repair.accessed = repair.modified = {1'000'000'000, 0};
  return repair;
}
std::vector<Step> same_times(const Step& step) {
  const bool may_name_link = step.operation == Operation::kTimes || step.operation == Operation::kChown;
  return {set_times(step.slot, step.path, may_name_link ? step.flags : 0)};
}
std::vector<Step> nothing(const Step&) { return {}; }

bool edges_count(const VolumeRules& rules) { return rules.block_size >= kPage && !rules.inline_data; }

constexpr KnownDifference kKnown[] = {
    {"utimensat(UTIME_NOW) by somebody who may write but does not own: the kernel's FUSE sends explicit "
     "times and "
     "asks for ownership (EPERM)",
     [](const Step& step, const Circumstances&, const Returned& ours, const Returned& kernels) {
       return step.operation == Operation::kTimes && step.who != 0 && step.accessed.tv_nsec == UTIME_NOW &&
              step.modified.tv_nsec == UTIME_NOW && ours.error == EPERM && kernels.error == 0;
     },
     same_times},
    {"chown(-1, -1) of a setuid file by somebody who does not own it: ext4 refuses (EPERM), the kernel's "
     "FUSE leaves "
     "the bits to the server and asks for nothing",
     [](const Step& step, const Circumstances&, const Returned& ours, const Returned& kernels) {
       return step.operation == Operation::kChown && step.who != 0 && step.uid == -1 && step.gid == -1 &&
              ours.error == 0 && kernels.error == EPERM;
     },
     same_times},
    {"an immutable or append-only file or directory: the kernel's FUSE does not know that it is one, so "
     "permissions "
     "and arguments are looked at first (EACCES, EINVAL) and access(2) does not say no",
     [](const Step& step, const Circumstances& there, const Returned& ours, const Returned& kernels) {
       if (!there.locked || kernels.error != EPERM) return false;
       return ours.error != 0 || (step.operation == Operation::kAccess && ours.error == 0);
     },
     nothing},
    {"holes: the kernel's FUSE writes back whole pages, so blocks smaller than a page come in pages; and "
     "ext4 "
     "keeps files inside of their inodes longer than we do",
     [](const Step& step, const Circumstances& there, const Returned& ours, const Returned& kernels) {
       const auto place = [](const Returned& found) { return found.error == 0 || found.error == ENXIO; };
       return step.operation == Operation::kSeek && !edges_count(there.rules) && place(ours) &&
              place(kernels);
     },
     nothing},
};

// On the path that differs, or the open file where there is none.
std::vector<Step> same_times_there(const Step& step, const std::string& path, const Entry&) {
  return {set_times(path.empty() ? step.slot : -1, path, AT_SYMLINK_NOFOLLOW)};
}
std::vector<Step> same_mode_and_times_there(const Step& step, const std::string& path, const Entry& kernels) {
  Step repair{.operation = Operation::kChmod, .slot = path.empty() ? step.slot : -1, .path = path};
  repair.mode = kernels.status.stx_mode & 07777;
  return {repair, set_times(repair.slot, path, AT_SYMLINK_NOFOLLOW)};
}

bool writes(const Step& step) {
  constexpr std::array kWriting = {Operation::kWrite, Operation::kTruncate, Operation::kFallocate,
                                   Operation::kCopy};
  const bool empties = step.operation == Operation::kOpen && (step.flags & O_TRUNC) != 0;
  return empties || std::ranges::find(kWriting, step.operation) != kWriting.end();
}

constexpr KnownTrace kTraces[] = {
    {"setgid without group execute, after a write or chown by somebody outside of the group: ext4 clears it, "
     "a FUSE "
     "server is "
     "not told of the writer's supplementary groups",
     [](const Step& step, const Returned&, std::string_view field, const Entry& ours, const Entry& kernels) {
       return field == "mode" && (writes(step) || step.operation == Operation::kChown) && step.who != 0 &&
              (ours.status.stx_mode ^ kernels.status.stx_mode) == S_ISGID &&
              (ours.status.stx_mode & S_IXGRP) == 0;
     },
     same_mode_and_times_there},
    {"setuid after chown(-1, -1): ext4 clears it, the kernel's FUSE does not ask the server for anything",
     [](const Step& step, const Returned&, std::string_view field, const Entry&, const Entry&) {
       return field == "mode" && step.operation == Operation::kChown && step.uid == -1 && step.gid == -1;
     },
     same_mode_and_times_there},
    {"times and setuid after a fallocate that failed: ext4 may change them before it looks whether it can",
     [](const Step& step, const Returned& returned, std::string_view field, const Entry&, const Entry&) {
       return step.operation == Operation::kFallocate && returned.error != 0 &&
              (field == "mtime" || field == "ctime" || field == "mode");
     },
     same_mode_and_times_there},
    {"times of the directory after a rename with RENAME_WHITEOUT that failed: ext4 has put the whiteout in "
     "its place, and "
     "taken it away again",
     [](const Step& step, const Returned& returned, std::string_view field, const Entry&, const Entry&) {
       return step.operation == Operation::kRename && (step.flags & RENAME_WHITEOUT) != 0 &&
              returned.error != 0 && (field == "mtime" || field == "ctime");
     },
     same_times_there},
    {"ctime after taking away an ACL that is not there: the kernel's FUSE sets it whenever the server agrees",
     [](const Step& step, const Returned&, std::string_view field, const Entry&, const Entry&) {
       const bool takes_away = step.operation == Operation::kRemoveXattr ||
                               (step.operation == Operation::kSetAcl && step.value.empty());
       return field == "ctime" && takes_away && step.name.starts_with("system.posix_acl_");
     },
     same_times_there},
};

}  // namespace

std::span<const KnownTrace> known_traces() { return kTraces; }
std::span<const KnownDifference> known_differences() { return kKnown; }

// The kernel's FUSE believes its own mtime and ctime of a regular file, not the server's: a time that the
// volume cannot store is seen unclamped until the inode is read again.
timespec comparable_time(timespec time, const VolumeRules& rules) {
  if (time.tv_sec <= rules.earliest) return {rules.earliest, 0};
  if (time.tv_sec >= rules.latest) return {rules.latest, 0};
  return time;
}

// With the write-back cache the kernel's FUSE believes its own ctime of a regular file; it does not think of
// a new one after these ioctls, which the server answers. What it shows until the inode is read again is the
// old one.
bool ctime_is_unsure_after(const Step& step, mode_t mode) {
  return S_ISREG(mode) &&
         (step.operation == Operation::kSetFlags || step.operation == Operation::kSetProject);
}

// We make no files inside of inodes (inline_data), we only use those that are there; the flag goes with that.
// A file that is mostly hole stays inside of its inode in ext4, and moves out in ours.
std::uint32_t comparable_flags(std::uint32_t flags, mode_t mode) {
  constexpr std::uint32_t kForm = FS_INLINE_DATA_FL | FS_EXTENT_FL;
  if (S_ISDIR(mode)) return flags;
  // Without either it is an indirect map.
  return (flags & kForm) != 0 ? (flags & ~kForm) | FS_EXTENT_FL : flags;
}

bool directory_size_counts(std::uint64_t, std::uint64_t, std::uint32_t) { return true; }

// As above: what is a hole depends on who wrote it, when, and what was cut off later. The contents say
// enough.
std::vector<std::int64_t> comparable_edges(const Entry& entry, const VolumeRules& rules) {
  return edges_count(rules) ? entry.edges : std::vector<std::int64_t>{};
}

// Where blocks lie is each side's own choice: more fragments may need more blocks of the extent tree. Up to
// four extents lie in the inode; e2fsck checks that st_blocks is what the tree needs. And see
// comparable_edges().
std::uint64_t sector_tolerance(const Entry& first, const Entry& second, const VolumeRules& rules) {
  if (!S_ISREG(first.status.stx_mode)) return 0;
  const std::uint64_t blocks =
      std::min(first.status.stx_blocks, second.status.stx_blocks) / (rules.block_size / 512);
  if (rules.block_size < kPage) return std::numeric_limits<std::uint64_t>::max();  // as comparable_edges()
  // ext4 counts the size of a file inside of its inode, holes too.
  if (((first.flags.value_or(0) | second.flags.value_or(0)) & FS_INLINE_DATA_FL) != 0)
    return std::numeric_limits<std::uint64_t>::max();
  // One block of the tree in any case: a tree that fits into the inode again is not put back by us. Each
  // takes a cluster.
  if ((first.flags.value_or(FS_EXTENT_FL) & FS_EXTENT_FL) != 0)
    return (blocks / ((rules.block_size - 12) / 12) + 1) * (rules.cluster_size / 512);
  // ext4 leaves an indirect block behind whose last block was punched out before the range's end.
  const std::uint64_t under_one = std::uint64_t{rules.block_size} / 4 * rules.block_size;
  return (first.status.stx_size / under_one + 3) * (rules.block_size / 512);
}

// A directory's offsets are hashes in ext4, which seeks among them; the kernel's FUSE seeks in its size. In a
// file inside of its inode the kernel's ext4 (6.18) answers ENOENT where the file is larger than its room
// there.
bool seek_is_left_out(mode_t mode, std::uint32_t flags) {
  return S_ISDIR(mode) || (flags & FS_INLINE_DATA_FL) != 0;
}

// The kernel's FUSE opens such a file for writing and takes the bytes into its cache; the server's refusal
// comes when they are written back (fsync, close), where ext4 refuses open(2) or write(2).
bool writing_is_left_out(const Step& step, std::uint64_t attributes) {
  if ((attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) == 0) return false;
  switch (step.operation) {
    case Operation::kOpen:
    case Operation::kCreate:
      if ((step.flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY) return false;
      break;
    case Operation::kWrite:
    case Operation::kCopy:
    case Operation::kFallocate:
      break;
    default:
      return false;
  }
  const bool appends = (step.flags & (O_APPEND | O_TRUNC | O_DIRECT)) == O_APPEND;
  return (attributes & STATX_ATTR_IMMUTABLE) != 0 || !appends;
}

// Access time NOW and a modification time given: FUSE's request looks like touch's, which is allowed. The
// modification time alone, and the one that the file has: it looks like a late ctime. Only whole seconds are
// met by chance.
bool times_are_left_out(const Step& step, std::uint64_t attributes, const VolumeRules& rules) {
  if (step.operation != Operation::kTimes || step.modified.tv_nsec == UTIME_OMIT) return false;
  if (step.accessed.tv_nsec == UTIME_NOW && step.modified.tv_nsec != UTIME_NOW)
    return (attributes & STATX_ATTR_APPEND) != 0;
  return step.accessed.tv_nsec == UTIME_OMIT && rules.granularity > 1 &&
         (attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
}

// ext4 sets mtime and ctime even if the size stays; the kernel's FUSE, which keeps these times itself, does
// not.
bool truncate_is_left_out(std::int64_t size_now, std::int64_t wanted) { return size_now == wanted; }

}  // namespace fuse4fs::oracle
