// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/oracle/differences.h"

#include <linux/fs.h>

#include <algorithm>
#include <cerrno>

namespace fuse4fs::oracle {
namespace {

constexpr KnownDifference kKnown[] = {
    {"utimensat(UTIME_NOW) by somebody who may write but does not own: the kernel's FUSE sends explicit "
     "times and "
     "asks for ownership (EPERM)",
     [](const Step& step, const Returned& ours, const Returned& kernels) {
       return step.operation == Operation::kTimes && step.who != 0 && step.accessed.tv_nsec == UTIME_NOW &&
              step.modified.tv_nsec == UTIME_NOW && ours.error == EPERM && kernels.error == 0;
     },
     [](const Step& step) -> std::optional<Step> {
       Step repair{.operation = Operation::kTimes, .slot = step.slot, .path = step.path};
       repair.accessed = repair.modified = {1'000'000'000, 0};
       return repair;
     }},
};

}  // namespace

std::span<const KnownDifference> known_differences() { return kKnown; }

// The index of a directory is not kept by us, and its flag goes with it.
std::uint32_t comparable_flags(std::uint32_t flags) {
  return flags & ~static_cast<std::uint32_t>(FS_INDEX_FL);
}

// Without an index, and with another order of splits, a directory of several blocks has another size.
bool directory_size_counts(std::uint64_t first, std::uint64_t second, std::uint32_t block_size) {
  return std::max(first, second) <= block_size;
}

// Where blocks lie is each side's own choice: more fragments may need more blocks of the extent tree. Up to
// four extents lie in the inode; e2fsck checks that st_blocks is what the tree needs.
std::uint64_t sector_tolerance(const Entry& first, const Entry& second, std::uint32_t block_size) {
  const std::uint64_t sectors = block_size / 512;
  const std::uint64_t blocks = std::min(first.status.stx_blocks, second.status.stx_blocks) / sectors;
  if (blocks <= 4 || !S_ISREG(first.status.stx_mode)) return 0;
  if (first.flags && (*first.flags & FS_EXTENT_FL) == 0) return 0;
  const std::uint64_t extents_a_block = (block_size - 12) / 12;
  return (blocks / extents_a_block + 1) * sectors;
}

}  // namespace fuse4fs::oracle
