// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/extent_tree.h"

#include <algorithm>
#include <vector>

#include "server/ext4/crc32c.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::string_view kOutside = "the extent tree points outside of what a file may own";

cache::BlockRole role_of(const Inode& inode) {
  return {.kind = cache::BlockKind::kExtents, .owner = inode.number};
}

std::uint32_t checksum_of(Volume& volume, const Inode& inode, std::span<const std::byte> bytes) {
  const std::uint32_t number = inode.number;
  const std::uint32_t generation = inode.raw.i_generation;
  std::uint32_t sum = crc32c(volume.fs()->csum_seed, &number, sizeof number);
  sum = crc32c(sum, &generation, sizeof generation);
  return crc32c(sum, bytes.data(), ExtentNode(bytes).checksum_offset());
}

std::string_view judge(Volume& volume, const Inode& inode, std::span<const std::byte> bytes) {
  if (const auto words = ExtentNode::judge_header(bytes, -1); !words.empty()) return words;
  const ExtentNode node(bytes);
  if (volume.has_checksums()) {
    std::uint32_t stored = 0;
    std::memcpy(&stored, bytes.data() + node.checksum_offset(), sizeof stored);
    if (stored != checksum_of(volume, inode, bytes)) return "the checksum of an extent node is wrong";
  }
  if (const auto words = ExtentNode::judge_entries(node); !words.empty()) return words;
  for (std::size_t i = 0; i < node.entries(); ++i) {
    if (node.depth() != 0) {
      if (!volume.may_be_owned(node.child(i), 1)) return kOutside;
    } else if (const Mapping extent = node.extent(i); !volume.may_be_owned(extent.physical, extent.count)) {
      return "an extent lies where it cannot";
    }
  }
  return {};
}

bool follows(const Mapping& first, const Mapping& second) {
  return first.end() == second.logical && first.physical + first.count == second.physical &&
         first.kind == second.kind && first.count + second.count <= longest_extent(first.kind);
}

}  // namespace

Result<ExtentNode> extent_root(Volume& volume, const Inode& inode) {
  const auto bytes = std::as_bytes(std::span(inode.raw.i_block));
  if (const auto words = ExtentNode::judge_header(bytes, -1); !words.empty())
    return fail(volume.corrupted(inode.number, 0, words));
  return ExtentNode(bytes);
}

Result<ExtentNode> extent_node(Volume& volume, const Inode& inode, std::uint64_t block, int depth,
                               cache::Buffer& buffer) {
  if (!volume.may_be_owned(block, 1)) return fail(volume.corrupted(inode.number, block, kOutside));
  std::string_view words;
  auto read =
      volume.cache().get(block, role_of(inode), [&](std::span<const std::byte> bytes) -> Result<void> {
        words = judge(volume, inode, bytes);
        if (words.empty()) return {};
        return fail(kCorrupted);
      });
  if (!read && words.empty() && read.error() == kCorrupted)
    words = "an extent node is another inode's as well";
  if (!read && !words.empty()) return fail(volume.corrupted(inode.number, block, words));
  if (!read) return fail(volume.failed(read.error().value(), inode.number, "reading an extent node"));
  buffer = std::move(*read);
  words = ExtentNode::judge_header(buffer.bytes(), depth);
  if (!words.empty()) return fail(volume.corrupted(inode.number, block, words));
  return ExtentNode(buffer.bytes());
}

// Extents one behind the other, joined where they go on with each other.
class ExtentTree::Row {
 public:
  void add(const Mapping& extent) {
    if (count_ != 0 && follows(extents_[count_ - 1], extent))
      extents_[count_ - 1].count += extent.count;
    else
      extents_[count_++] = extent;
  }
  void add(const std::optional<Mapping>& extent) {
    if (extent) add(*extent);
  }
  // Even where it goes on.
  void add_apart(const Mapping& extent) { extents_[count_++] = extent; }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] std::array<ExtentNode::Entry, kMostPieces + 2> entries() const {
    std::array<ExtentNode::Entry, kMostPieces + 2> entries{};
    for (std::size_t i = 0; i < count_; ++i) entries[i] = ExtentNode::entry_of(extents_[i]);
    return entries;
  }

 private:
  std::array<Mapping, kMostPieces + 2> extents_{};
  std::size_t count_ = 0;
};

ExtentNode ExtentTree::node(std::size_t level) const {
  if (is_root(level)) return ExtentNode(std::as_bytes(std::span(inode_.raw.i_block)));
  return ExtentNode(way_[level].buffer.bytes());
}

Result<void> ExtentTree::seek(std::uint64_t logical) {
  ASSIGN_OR_RETURN(ExtentNode here, extent_root(volume_, inode_));
  levels_ = static_cast<std::size_t>(here.depth()) + 1;
  for (std::size_t level = levels_; level-- > 0;) {
    Level& at = way_[level];
    if (is_root(level)) {
      at.buffer.release();
      at.block = 0;
    }
    at.behind = here.behind(logical);
    if (level == 0) break;
    Level& below = way_[level - 1];
    below.block = here.child(at.child());
    ASSIGN_OR_RETURN(here,
                     extent_node(volume_, inode_, below.block, static_cast<int>(level) - 1, below.buffer));
  }
  return {};
}

std::optional<Mapping> ExtentTree::extent(std::size_t index) const {
  const ExtentNode leaf = node(0);
  // Also below 0.
  if (index >= leaf.entries()) return std::nullopt;
  return leaf.extent(index);
}

Result<void> ExtentTree::insert(const Mapping& fresh) {
  while (true) {
    RETURN_IF_ERROR(seek(fresh.logical));
    const auto left = found();
    const auto right = after();
    if ((left && left->end() > fresh.logical) || (right && right->logical < fresh.end()))
      return fail(volume_.corrupted(inode_.number, fresh.physical, "a hole of the extent tree is mapped"));
    Row row;
    std::size_t index = way_[0].behind;
    std::size_t removed = 0;
    if (left && follows(*left, fresh)) {
      row.add(left);
      --index;
      ++removed;
    }
    row.add(fresh);
    if (right && follows(fresh, *right)) {
      row.add(right);
      ++removed;
    }
    ASSIGN_OR_RETURN(const bool done, put(index, removed, row));
    if (done) return {};
  }
}

Result<void> ExtentTree::replace(std::span<const Mapping> pieces) {
  const Mapping whole = *found();
  while (true) {
    Row row;
    std::size_t index = way_[0].behind - 1;
    std::size_t removed = 1;
    if (!pieces.empty() && before()) {
      row.add(before());
      --index;
      ++removed;
    }
    for (const Mapping& piece : pieces) row.add(piece);
    if (!pieces.empty() && after()) {
      row.add(after());
      ++removed;
    }
    ASSIGN_OR_RETURN(const bool done, put(index, removed, row));
    if (done) return {};
    RETURN_IF_ERROR(seek(whole.logical));
  }
}

Result<void> ExtentTree::split_at(std::uint64_t logical) {
  while (true) {
    RETURN_IF_ERROR(seek(logical));
    const auto whole = found();
    if (!whole || whole->logical == logical || whole->end() <= logical) return {};
    const std::uint64_t kept = logical - whole->logical;
    Row row;
    row.add_apart({whole->logical, whole->physical, kept, whole->kind});
    row.add_apart({logical, whole->physical + kept, whole->count - kept, whole->kind});
    ASSIGN_OR_RETURN(const bool done, put(way_[0].behind - 1, 1, row));
    if (done) return {};
  }
}

Result<void> ExtentTree::shift(std::uint64_t first, std::uint64_t count, Direction direction) {
  const ExtentNode leaf = node(0);
  const std::size_t end = direction == Direction::kRight ? way_[0].behind : leaf.entries();
  std::size_t begin = leaf.behind(first);
  if (begin != 0 && leaf.logical(begin - 1) == first) --begin;
  if (begin >= end) return {};
  RETURN_IF_ERROR(change(0, [&](ExtentNodeEdit edit) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint64_t logical = leaf.logical(i);
      edit.set_logical(i, direction == Direction::kRight ? logical + count : logical - count);
    }
  }));
  return begin == 0 ? lower_first(0) : Result<void>();
}

Result<bool> ExtentTree::put(std::size_t index, std::size_t removed, const Row& row) {
  const ExtentNode leaf = node(0);
  if (leaf.entries() - removed + row.size() > leaf.room()) {
    RETURN_IF_ERROR(make_room(0));
    return false;
  }
  const auto entries = row.entries();
  RETURN_IF_ERROR(splice(0, index, removed, std::span(entries).first(row.size())));
  return true;
}

template <class Edit>
Result<void> ExtentTree::change(cache::Buffer& buffer, Edit edit) {
  const auto change = volume_.journal().modify(buffer);
  if (!change) return fail(volume_.failed(change.error().value(), inode_.number, "changing the extent tree"));
  edit(ExtentNodeEdit(change->bytes()));
  if (!volume_.has_checksums()) return {};
  const std::uint32_t sum = checksum_of(volume_, inode_, change->bytes());
  std::memcpy(change->bytes().data() + ExtentNode(change->bytes()).checksum_offset(), &sum, sizeof sum);
  return {};
}

template <class Edit>
Result<void> ExtentTree::change(std::size_t level, Edit edit) {
  if (!is_root(level)) return change(way_[level].buffer, edit);
  edit(ExtentNodeEdit(std::as_writable_bytes(std::span(inode_.raw.i_block))));
  return {};
}

Result<void> ExtentTree::splice(std::size_t level, std::size_t index, std::size_t removed,
                                std::span<const ExtentNode::Entry> added) {
  RETURN_IF_ERROR(change(level, [&](ExtentNodeEdit edit) { edit.splice(index, removed, added); }));
  if (node(level).entries() == 0) return drop_empty(level);
  return index == 0 ? lower_first(level) : Result<void>();
}

// The links on the way say where the node begins now.
Result<void> ExtentTree::lower_first(std::size_t level) {
  const std::uint64_t first = node(level).logical(0);
  for (std::size_t above = level + 1; above < levels_; ++above) {
    const std::size_t child = way_[above].child();
    if (node(above).logical(child) == first) return {};
    RETURN_IF_ERROR(change(above, [&](ExtentNodeEdit edit) { edit.set_logical(child, first); }));
    if (child != 0) return {};
  }
  return {};
}

Result<void> ExtentTree::drop_empty(std::size_t level) {
  if (is_root(level)) return change(level, [](ExtentNodeEdit edit) { edit.initialise(0); });
  RETURN_IF_ERROR(splice(level + 1, way_[level + 1].child(), 1, {}));
  return free_node(way_[level].block);
}

Result<void> ExtentTree::make_room(std::size_t level) {
  if (is_root(level)) return grow();
  const ExtentNode above = node(level + 1);
  return above.entries() == above.room() ? make_room(level + 1) : split(level);
}

// What the root holds moves to a node of its own.
Result<void> ExtentTree::grow() {
  const ExtentNode root = node(levels_ - 1);
  if (root.depth() == kDeepestExtents) return fail(ENOSPC);
  std::vector<ExtentNode::Entry> entries;
  for (std::size_t i = 0; i < root.entries(); ++i) entries.push_back(root.entry(i));
  ASSIGN_OR_RETURN(const std::uint64_t block, add_node(root.depth(), entries));
  const auto link = ExtentNode::link_to(root.logical(0), block);
  return change(levels_ - 1, [&](ExtentNodeEdit edit) {
    edit.initialise(root.depth() + 1);
    edit.splice(0, 0, std::span(&link, 1));
  });
}

// In the middle; where the end is what grows, as little as can be moves: the rest stays full.
Result<void> ExtentTree::split(std::size_t level) {
  const ExtentNode whole = node(level);
  const std::size_t all = whole.entries();
  const std::size_t kept = way_[level].behind == all ? all - 1 : all / 2;
  std::vector<ExtentNode::Entry> moved;
  for (std::size_t i = kept; i < all; ++i) moved.push_back(whole.entry(i));
  const std::uint64_t begin = whole.logical(kept);
  ASSIGN_OR_RETURN(const std::uint64_t block, add_node(whole.depth(), moved));
  const auto link = ExtentNode::link_to(begin, block);
  const std::size_t above = level + 1;
  RETURN_IF_ERROR(change(
      above, [&](ExtentNodeEdit edit) { edit.splice(way_[above].child() + 1, 0, std::span(&link, 1)); }));
  return change(level, [&](ExtentNodeEdit edit) { edit.splice(kept, all - kept, {}); });
}

Result<std::uint64_t> ExtentTree::add_node(int depth, std::span<const ExtentNode::Entry> entries) {
  const std::uint64_t goal = volume_.goal_of(inode_.number, Volume::Contents::kMetadata);
  ASSIGN_OR_RETURN(const BlockRun run, blocks_.take_for_map(goal));
  const ext2_inode_large before = inode_.raw;
  auto done = volume_.count_blocks(inode_, 1);
  if (done) {
    auto buffer = volume_.journal().get_new(run.first, role_of(inode_));
    done = buffer ? change(*buffer,
                           [&](ExtentNodeEdit edit) {
                             edit.initialise(depth);
                             edit.splice(0, 0, entries);
                           })
                  : volume_.check(buffer.error().value(), inode_.number, "adding an extent node");
  }
  if (done) return run.first;
  inode_.raw = before;
  (void)blocks_.give_back(run, inode_.number);
  return fail(done.error());
}

Result<void> ExtentTree::free_node(std::uint64_t block) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  RETURN_IF_ERROR(blocks_.give_back({block & ~(cluster - 1), cluster}, inode_.number));
  volume_.journal().revoke(block, 1);
  volume_.uncount_blocks(inode_, 1);
  return {};
}

}  // namespace fuse4fs::ext4
