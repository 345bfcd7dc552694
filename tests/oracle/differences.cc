// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/differences.h"

#include <linux/fs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace fuse4fs::oracle {
namespace {

constexpr std::int64_t kPage = 4096;

// Equal on both sides again, whatever they were.
std::optional<Step> same_times(const Step& step) {
  Step repair{.operation = Operation::kTimes, .slot = step.slot, .path = step.path, .flags = step.flags};
  repair.accessed = repair.modified = {1'000'000'000, 0};
  return repair;
}
std::optional<Step> nothing(const Step&) { return std::nullopt; }

constexpr KnownDifference kKnown[] = {
    {"utimensat(UTIME_NOW) by somebody who may write but does not own: the kernel's FUSE sends explicit "
     "times and "
     "asks for ownership (EPERM)",
     [](const Step& step, const VolumeRules&, const Returned& ours, const Returned& kernels) {
       return step.operation == Operation::kTimes && step.who != 0 && step.accessed.tv_nsec == UTIME_NOW &&
              step.modified.tv_nsec == UTIME_NOW && ours.error == EPERM && kernels.error == 0;
     },
     same_times},
    {"chown(-1, -1) of a setuid file by somebody who does not own it: ext4 refuses (EPERM), the kernel's "
     "FUSE leaves "
     "the bits to the server and asks for nothing",
     [](const Step& step, const VolumeRules&, const Returned& ours, const Returned& kernels) {
       return step.operation == Operation::kChown && step.who != 0 && step.uid == -1 && step.gid == -1 &&
              ours.error == 0 && kernels.error == EPERM;
     },
     same_times},
    {"holes smaller than a page: the kernel's FUSE writes back whole pages, so blocks smaller than a page "
     "come in "
     "pages",
     [](const Step& step, const VolumeRules& rules, const Returned& ours, const Returned& kernels) {
       if (step.operation != Operation::kSeek || rules.block_size >= kPage || ours.error != 0) return false;
       return kernels.error == ENXIO ? ours.value < step.offset + kPage
                                     : kernels.error == 0 && std::abs(ours.value - kernels.value) < kPage;
     },
     nothing},
};

}  // namespace

std::span<const KnownDifference> known_differences() { return kKnown; }

// The kernel's FUSE believes its own mtime and ctime of a regular file, not the server's: a time that the
// volume cannot store is seen unclamped until the inode is read again.
timespec comparable_time(timespec time, const VolumeRules& rules) {
  if (time.tv_sec <= rules.earliest) return {rules.earliest, 0};
  if (time.tv_sec >= rules.latest) return {rules.latest, 0};
  return time;
}

// The index of a directory is not kept by us, and its flag goes with it.
std::uint32_t comparable_flags(std::uint32_t flags) {
  return flags & ~static_cast<std::uint32_t>(FS_INDEX_FL);
}

// Without an index, and with another order of splits, a directory of several blocks has another size. And we
// make no directories inside of inodes (inline_data), we only use those that are there.
bool directory_size_counts(std::uint64_t first, std::uint64_t second, std::uint32_t block_size) {
  return std::min(first, second) >= block_size && std::max(first, second) <= block_size;
}

std::vector<std::int64_t> comparable_edges(const Entry& entry, const VolumeRules& rules) {
  if (rules.block_size >= kPage) return entry.edges;
  const auto size = static_cast<std::int64_t>(entry.status.stx_size);
  std::vector<std::int64_t> whole;
  for (std::size_t i = 0; i + 1 < entry.edges.size(); i += 2) {
    const std::int64_t data = entry.edges[i] / kPage * kPage;
    const std::int64_t hole = std::min((entry.edges[i + 1] + kPage - 1) / kPage * kPage, size);
    if (!whole.empty() && whole.back() >= data) {
      whole.back() = hole;
    } else {
      whole.insert(whole.end(), {data, hole});
    }
  }
  return whole;
}

// Where blocks lie is each side's own choice: more fragments may need more blocks of the extent tree. Up to
// four extents lie in the inode; e2fsck checks that st_blocks is what the tree needs. And see
// comparable_edges().
std::uint64_t sector_tolerance(const Entry& first, const Entry& second, const VolumeRules& rules) {
  if (!S_ISREG(first.status.stx_mode)) return 0;
  const std::uint64_t sectors = rules.block_size / 512;
  const std::uint64_t blocks = std::min(first.status.stx_blocks, second.status.stx_blocks) / sectors;
  std::uint64_t tolerance = 0;
  if (rules.block_size < kPage) {
    // A page that has one block of data has all of them.
    const std::uint64_t blocks_a_page = kPage / rules.block_size;
    tolerance += blocks * (blocks_a_page - 1) * sectors;
  }
  if (blocks > 4 && (first.flags.value_or(FS_EXTENT_FL) & FS_EXTENT_FL) != 0)
    tolerance += (blocks / ((rules.block_size - 12) / 12) + 1) * sectors;
  return tolerance;
}

// ext4 sets mtime and ctime even if the size stays; the kernel's FUSE, which keeps these times itself, does
// not.
bool truncate_is_left_out(std::int64_t size_now, std::int64_t wanted) { return size_now == wanted; }

}  // namespace fuse4fs::oracle
