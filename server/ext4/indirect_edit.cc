// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: taking blocks out of an indirect map.
#include <algorithm>
#include <span>
#include <vector>

#include "server/ext4/extent_map.h"

namespace fuse4fs::ext4 {

struct ExtentMap::Cut {
  std::uint64_t first, end;     // of the file's blocks
  std::vector<BlockRun> freed;  // data and indirect blocks, neighbours joined

  void free(std::uint64_t block) {
    if (!freed.empty() && freed.back().first + freed.back().count == block)
      ++freed.back().count;
    else
      freed.push_back({block, 1});
  }
};

// What `pointer` maps begins at the file's block `begin`. An indirect block that maps nothing any more goes
// too.
Result<void> ExtentMap::cut_indirect(const Inode& inode, Cut& cut, std::uint32_t& pointer, int level,
                                     std::uint64_t begin) {
  if (pointer == 0) return {};
  if (level == 0) {
    cut.free(pointer);
    pointer = 0;
    return {};
  }
  if (!volume_.may_be_owned(pointer, 1))
    return fail(volume_.corrupted(inode.number, pointer, "an indirect block lies where it cannot"));
  std::vector<std::uint32_t> pointers(volume_.block_size() / 4);
  const std::uint64_t place = static_cast<std::uint64_t>(pointer) << volume_.block_bits();
  if (auto read = volume_.cache().read(place, std::as_writable_bytes(std::span(pointers))); !read)
    return volume_.check(read.error().value(), inode.number, "reading an indirect block");
  std::uint64_t span = 1;
  for (int below = 1; below < level; ++below) span *= pointers.size();
  Result<void> outcome;
  for (std::size_t i = 0; outcome && i < pointers.size(); ++i) {
    const std::uint64_t at = begin + i * span;
    if (at < cut.end && cut.first < at + span) outcome = cut_indirect(inode, cut, pointers[i], level - 1, at);
  }
  if (std::all_of(pointers.begin(), pointers.end(), [](std::uint32_t one) { return one == 0; })) {
    cut.free(pointer);
    pointer = 0;
    return outcome;
  }
  const auto written = volume_.cache().write(place, std::as_bytes(std::span(pointers)));
  if (outcome && !written)
    return volume_.check(written.error().value(), inode.number, "writing an indirect block");
  return outcome;
}

Result<void> ExtentMap::remove_indirect(Inode& inode, std::uint64_t first, std::uint64_t count,
                                        std::uint64_t& freed) {
  Cut cut{first, first + count, {}};
  const std::uint64_t per_block = volume_.block_size() / 4;
  Result<void> outcome;
  std::uint64_t begin = 0;
  for (int i = 0; outcome && i < EXT2_N_BLOCKS; ++i) {
    const int level = std::max(0, i - EXT2_NDIR_BLOCKS + 1);
    std::uint64_t span = 1;
    for (int below = 0; below < level; ++below) span *= per_block;
    if (begin < cut.end && cut.first < begin + span)
      outcome = cut_indirect(inode, cut, inode.raw.i_block[i], level, begin);
    begin += span;
  }
  // Nothing points there any more, whatever happened.
  for (const BlockRun& run : cut.freed) {
    const auto given = blocks_.give_back(run, inode.number);
    if (given) freed += run.count;
    if (outcome) outcome = given;
  }
  return outcome;
}

}  // namespace fuse4fs::ext4
