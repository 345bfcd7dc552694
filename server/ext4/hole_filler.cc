// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/hole_filler.h"

#include <algorithm>
#include <tuple>

#include "server/ext4/credits.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) { return value & ~(unit - 1); }

}  // namespace

Result<void> HoleFiller::fill(Inode& inode, Mapping hole, std::uint64_t ahead, std::vector<Piece>& pieces) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  std::uint64_t goal = 0;
  while (hole.count > 0) {
    const std::uint64_t inside = hole.logical & (cluster - 1);
    const bool partial = inside != 0 || hole.count < cluster;
    std::uint64_t count = partial ? std::min(hole.count, cluster - inside) : round_down(hole.count, cluster);
    Piece piece{hole, 0, {}, false};
    if (partial && cluster > 1) {
      ASSIGN_OR_RETURN(piece.where.physical, metadata_.extents.implied_block(inode, hole.logical));
    }
    if (piece.where.physical == 0) {
      if (goal == 0)
        goal = !pieces.empty() && pieces.back().where.kind != Mapping::Kind::kHole
                   ? pieces.back().where.physical + pieces.back().where.count
                   : metadata_.extents.goal_for(inode, hole.logical);
      std::ignore = volume_.journal().ensure(credits::of_run);
      ASSIGN_OR_RETURN(piece.taken, metadata_.blocks.take({.goal = goal,
                                                           .most = count,
                                                           .owner = inode.number,
                                                           .ahead = ahead,
                                                           .reserve = metadata_.blocks.reserve_for(inode)}));
      RETURN_IF_ERROR(metadata_.extents.check_taken(inode, hole.logical, piece.taken));
      piece.where.physical = piece.taken.first + inside;
      count = std::min(count, piece.taken.count - inside);
      piece.fresh = piece.taken.count / cluster;
      goal = piece.taken.first + piece.taken.count;
    }
    piece.where.count = count;
    pieces.push_back(piece);
    hole.logical += count;
    hole.count -= count;
  }
  return {};
}

void HoleFiller::abandon(InodeNumber number, const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    if (piece.mapped || piece.fresh == 0) continue;
    std::ignore = volume_.journal().ensure(credits::of_run);
    (void)metadata_.blocks.give_back(piece.taken, number);
  }
}

Result<void> HoleFiller::go_on(const Inode& inode) {
  if (volume_.journal().ensure(credits::of_map)) return {};
  RETURN_IF_ERROR(volume_.write_inode(inode));
  volume_.journal().restart(credits::of_map);
  return {};
}

// Counted first: once it is in the map it is the file's, and must not be given back.
Result<void> HoleFiller::map(Inode& inode, Piece& piece, Mapping::Kind kind) {
  const Mapping& where = piece.where;
  if (piece.fresh != 0) RETURN_IF_ERROR(metadata_.extents.add_blocks(inode, piece.fresh));
  auto done = metadata_.extents.insert(inode, where.logical, where.physical, where.count, kind);
  if (!done && piece.fresh != 0) volume_.uncount_blocks(inode, piece.fresh);
  piece.mapped = done.has_value();
  return done;
}

Result<void> HoleFiller::allocate_unwritten(Inode& inode, std::uint64_t& first, std::uint64_t count) {
  ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, first, count));
  for (const Mapping& part : parts) {
    if (part.kind != Mapping::Kind::kHole) {
      first += part.count;
      continue;
    }
    std::vector<Piece> pieces;
    const auto filled = fill(inode, part, 0, pieces);
    for (Piece& piece : pieces) {
      const Mapping& where = piece.where;
      auto done = go_on(inode);
      if (done) done = map(inode, piece, Mapping::Kind::kUnwritten);
      if (!done) {
        abandon(inode.number, pieces);
        return done;
      }
      first += where.count;
    }
    RETURN_IF_ERROR(filled);
  }
  return {};
}

}  // namespace fuse4fs::ext4
