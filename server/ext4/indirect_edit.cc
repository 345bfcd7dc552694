// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: putting blocks into an indirect map, and taking them out.
#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <tuple>
#include <vector>

#include "server/ext4/credits.h"
#include "server/ext4/extent_map.h"

namespace fuse4fs::ext4 {

namespace {

// How many blocks the pointers of an inode lead to.
constexpr std::uint64_t block_limit_of_map(std::uint64_t per_block) {
  return EXT2_NDIR_BLOCKS + per_block * (1 + per_block * (1 + per_block));
}

}  // namespace

std::optional<ExtentMap::IndirectWay> ExtentMap::indirect_way(std::uint64_t logical,
                                                              std::uint64_t per_block) {
  if (logical < EXT2_NDIR_BLOCKS) return IndirectWay{0, {static_cast<std::size_t>(logical)}};
  std::uint64_t inside = logical - EXT2_NDIR_BLOCKS;
  std::uint64_t span = per_block;
  for (std::size_t level = 1; level <= 3; ++level) {
    if (inside < span) {
      IndirectWay way{level, {EXT2_NDIR_BLOCKS + level - 1}};
      for (std::size_t i = 1; i <= level; ++i) {
        span /= per_block;
        way.slots[i] = static_cast<std::size_t>(inside / span);
        inside %= span;
      }
      return way;
    }
    inside -= span;
    span *= per_block;
  }
  return std::nullopt;
}

// A block of zeros, counted in the inode.
Result<std::uint32_t> ExtentMap::add_indirect(Inode& inode, std::uint64_t goal) {
  ASSIGN_OR_RETURN(const BlockRun run, blocks_.take_for_map(goal));
  Result<void> done;
  if (run.first > std::numeric_limits<std::uint32_t>::max()) done = fail(ENOSPC);
  if (done) {
    if (const auto buffer = volume_.journal().get_new(run.first, {}); !buffer)
      done = volume_.check(buffer.error().value(), inode.number, "adding an indirect block");
  }
  if (done) done = add_blocks(inode, 1);
  if (done) return static_cast<std::uint32_t>(run.first);
  (void)blocks_.give_back(run, inode.number);
  return fail(done.error());
}

Result<void> ExtentMap::insert_indirect(Inode& inode, std::uint64_t logical, std::uint64_t physical) {
  const auto way = indirect_way(logical, volume_.block_size() / 4);
  if (!way || physical > std::numeric_limits<std::uint32_t>::max()) return fail(EFBIG);
  const auto place_of = [&](std::uint32_t block, std::size_t slot) {
    return (std::uint64_t{block} << volume_.block_bits()) + slot * 4;
  };
  const auto checked = [&](const Result<void>& done, std::string_view doing) {
    return done ? done : volume_.check(done.error().value(), inode.number, doing);
  };
  // As far as there is a way.
  std::uint32_t block = 0;  // the last one that is there; 0: the inode
  std::uint32_t pointer = inode.raw.i_block[way->slots[0]];
  std::size_t at = 0;
  while (pointer != 0 && at < way->level) {
    block = pointer;
    ++at;
    if (!volume_.may_be_owned(block, 1))
      return fail(volume_.corrupted(inode.number, block, "an indirect block lies where it cannot"));
    RETURN_IF_ERROR(checked(
        volume_.cache().read(place_of(block, way->slots[at]), std::as_writable_bytes(std::span(&pointer, 1))),
        "reading an indirect block"));
  }
  if (pointer != 0)
    return fail(volume_.corrupted(inode.number, pointer, "a hole of an indirect map is mapped"));
  // The rest of it, from its end; hung up when it is whole.
  const std::uint64_t goal = volume_.goal_of(inode.number, Volume::Contents::kMetadata);
  const ext2_inode_large before = inode.raw;
  std::vector<std::uint32_t> added;
  auto below = static_cast<std::uint32_t>(physical);
  Result<void> done;
  const auto point = [&](std::uint32_t from, std::size_t slot) {
    return checked(
        volume_.journal().write(from, slot * sizeof below, std::as_bytes(std::span(&below, 1)), inode.number),
        "writing an indirect block");
  };
  for (std::size_t level = way->level; done && level > at; --level) {
    const auto fresh = add_indirect(inode, goal);
    done = fresh ? point(*fresh, way->slots[level]) : fail(fresh.error());
    if (!fresh) break;
    added.push_back(*fresh);
    below = *fresh;
  }
  if (done && block != 0) done = point(block, way->slots[at]);
  if (done && block == 0) inode.raw.i_block[way->slots[0]] = below;
  if (done) return {};
  inode.raw = before;
  for (const std::uint32_t one : added) (void)blocks_.give_back({one, 1}, inode.number);
  return done;
}

// Indirect blocks stay, even if they map nothing any more: they go with the next cut.
Result<void> ExtentMap::unmap_indirect(Inode& inode, std::uint64_t logical) {
  const auto way = indirect_way(logical, volume_.block_size() / 4);
  if (!way) return fail(EFBIG);
  if (way->level == 0) {
    inode.raw.i_block[way->slots[0]] = 0;
    return {};
  }
  std::uint32_t block = inode.raw.i_block[way->slots[0]];
  for (std::size_t at = 1; at < way->level && block != 0; ++at) {
    const std::uint64_t place =
        (std::uint64_t{block} << volume_.block_bits()) + way->slots[at] * sizeof block;
    if (const auto read = volume_.cache().read(place, std::as_writable_bytes(std::span(&block, 1))); !read)
      return volume_.check(read.error().value(), inode.number, "reading an indirect block");
  }
  if (block == 0) return {};
  constexpr std::uint32_t kHole = 0;
  const auto written = volume_.journal().write(block, way->slots[way->level] * sizeof kHole,
                                               std::as_bytes(std::span(&kHole, 1)), inode.number);
  return written ? written
                 : volume_.check(written.error().value(), inode.number, "writing an indirect block");
}

struct ExtentMap::Cut {
  std::uint64_t first, end;                  // of the file's blocks
  std::uint64_t most;                        // lowest indirect blocks, from the end on, that may be cut
  std::uint64_t reached = 0;                 // what lies before it was not looked at any more
  std::vector<BlockRun> freed = {};          // data, neighbours joined
  std::vector<std::uint64_t> indirect = {};  // freed, too

  void free(std::uint64_t block) {
    if (!freed.empty() && freed.back().first == block + 1) {
      --freed.back().first;
      ++freed.back().count;
    } else {
      freed.push_back({block, 1});
    }
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
  if (level == 1) --cut.most;
  std::uint64_t span = 1;
  for (int below = 1; below < level; ++below) span *= pointers.size();
  Result<void> outcome;
  for (std::size_t i = pointers.size(); outcome && i-- > 0;) {
    const std::uint64_t at = begin + i * span;
    if (at >= cut.end || cut.first >= at + span) continue;
    if (level > 1 && cut.most == 0 && pointers[i] != 0) {
      cut.reached = std::max(cut.reached, std::min(cut.end, at + span));
      break;
    }
    outcome = cut_indirect(inode, cut, pointers[i], level - 1, at);
  }
  if (std::all_of(pointers.begin(), pointers.end(), [](std::uint32_t one) { return one == 0; })) {
    cut.indirect.push_back(pointer);
    pointer = 0;
    return outcome;
  }
  // More than the inode had counted: the volume is damaged.
  std::ignore = volume_.journal().ensure(credits::of_indirect_map(0, pointers.size(), 1));
  const auto written = volume_.journal().write(pointer, 0, std::as_bytes(std::span(pointers)), inode.number);
  if (outcome && !written)
    return volume_.check(written.error().value(), inode.number, "writing an indirect block");
  return outcome;
}

Result<std::uint64_t> ExtentMap::cut_indirect(Inode& inode, std::uint64_t first, std::uint64_t end,
                                              std::uint64_t most, std::uint64_t& freed) {
  Cut cut{.first = first, .end = end, .most = most};
  const std::uint64_t per_block = volume_.block_size() / 4;
  Result<void> outcome;
  std::uint64_t begin = block_limit_of_map(per_block);
  for (int i = EXT2_N_BLOCKS; outcome && i-- > 0;) {
    const int level = std::max(0, i - EXT2_NDIR_BLOCKS + 1);
    std::uint64_t span = 1;
    for (int below = 0; below < level; ++below) span *= per_block;
    begin -= span;
    auto& pointer = inode.raw.i_block[i];
    if (pointer == 0 || begin >= cut.end || cut.first >= begin + span) continue;
    // The first twelve go with whatever came before them.
    if (level != 0 && cut.most == 0) cut.reached = std::max(cut.reached, begin + span);
    if (cut.reached != 0) break;
    outcome = cut_indirect(inode, cut, pointer, level, begin);
  }
  // Nothing points there any more, whatever happened.
  const auto note = [&](std::uint64_t count, const Result<void>& given) {
    if (given) freed += count;
    if (outcome) outcome = given;
  };
  for (const BlockRun& run : cut.freed) note(run.count, give_back(inode, run));
  for (const std::uint64_t block : cut.indirect) {
    const auto given = blocks_.give_back({block, 1}, inode.number);
    if (given) volume_.journal().revoke(block, 1);
    note(1, given);
  }
  if (!outcome) return fail(outcome.error());
  return std::max(first, cut.reached);
}

// Each handle cuts a stretch from the end, of as many indirect blocks as it may, or of one where the log has
// no room for more.
Result<void> ExtentMap::remove_indirect(Inode& inode, std::uint64_t first, std::uint64_t end, Handles handles,
                                        std::uint64_t& freed) {
  auto& journal = volume_.journal();
  const std::uint32_t groups = volume_.fs()->group_desc_count;
  const std::uint64_t per_block = volume_.block_size() / 4;
  // Of whole indirect blocks, and of one that is not.
  const auto credits_of = [&](std::uint64_t count) {
    return credits::of_indirect_map(count * per_block, per_block, groups);
  };
  if (handles == Handles::kOne) {
    const std::uint64_t blocks =
        inode.sectors(volume_.super(), volume_.block_size()) * 512 / volume_.block_size();
    std::ignore = journal.ensure(credits_of(std::min(blocks, end - first) / per_block + 1));
    RETURN_IF_ERROR(cut_indirect(inode, first, end, kExtentBlocks, freed));
    return {};
  }
  for (bool again = false; first < end; again = true) {
    if (again) RETURN_IF_ERROR(begin_anew(inode, end, freed));
    std::uint64_t most = LongWork::kIndirect;
    if (!journal.ensure(credits_of(most))) most = 1;
    if (!journal.ensure(credits_of(most))) {
      RETURN_IF_ERROR(begin_anew(inode, end, freed));
      std::ignore = journal.ensure(credits_of(most));
    }
    ASSIGN_OR_RETURN(end, cut_indirect(inode, first, end, most, freed));
  }
  return {};
}

}  // namespace fuse4fs::ext4
