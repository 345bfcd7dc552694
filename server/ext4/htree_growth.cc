// SPDX-License-Identifier: GPL-2.0-or-later
// HTree: names that come, leaves and nodes that are split for them, and the index's first block.
#include <algorithm>
#include <utility>

#include "server/ext4/credits.h"
#include "server/ext4/htree.h"

namespace fuse4fs::ext4 {
namespace {

// The entries, one behind the other; the last one takes what is left.
void pack(const DirectoryEntries& format, std::span<std::byte> bytes, std::span<const std::byte> from,
          std::span<const DirectoryEntries::Entry> kept) {
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  const std::size_t end = format.end();
  std::size_t offset = 0;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const std::size_t used = kept[i].used();
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(kept[i].offset), used,
                bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    format.set_length(bytes, offset, i + 1 < kept.size() ? used : end - offset);
    offset += used;
  }
  // One that is not in use.
  if (kept.empty()) format.set_length(bytes, 0, end);
  format.put_tail(bytes);
}

}  // namespace

Result<bool> HTree::insert_into_leaf(const Inode& directory, DirectoryBlock& leaf, std::string_view name,
                                     InodeNumber inode, mode_t mode) {
  const auto& entries = store_.entries();
  const auto roomy = entries.find_room(leaf.bytes(), 0, entries.end(), entry_length(name.size()));
  if (!roomy) return false;
  RETURN_IF_ERROR(store_.change(directory, leaf, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
    entries.insert_behind(bytes, *roomy, name, inode, mode);
  }));
  return true;
}

Result<void> HTree::insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode,
                           Position position) {
  const auto& entries = store_.entries();
  if (position.leaf && position.roomy && position.leaf->is_unchanged_by_others()) {
    const Entry roomy = entries.at(position.leaf->bytes(), *position.roomy);
    return store_.change(directory, *position.leaf, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
      entries.insert_behind(bytes, roomy, name, inode, mode);
    });
  }
  position.leaf.reset();
  // Each turn splits one block; of the highest tree, each level may need it once.
  constexpr int kMostTurns = 10;
  for (int turn = 0; turn < kMostTurns; ++turn) {
    if (turn >= static_cast<int>(credits::kSplits) - 1) store_.ensure_split();
    Path path;
    RETURN_IF_ERROR(start(directory, path));
    RETURN_IF_ERROR(descend(directory, path, hasher_.of(name, path.version).major));
    ASSIGN_OR_RETURN(DirectoryBlock leaf, store_.read(directory, path.leaf(), DirectoryForm::kEntries));
    ASSIGN_OR_RETURN(const bool done, insert_into_leaf(directory, leaf, name, inode, mode));
    if (done) return {};
    if (!path.frames.empty()) {
      RETURN_IF_ERROR(grow(directory, path, leaf));
      continue;
    }
    RETURN_IF_ERROR(make_root(directory, leaf));
    // Its one leaf is split at once, as ext4 does.
    RETURN_IF_ERROR(start(directory, path));
    RETURN_IF_ERROR(descend(directory, path, 0));
    ASSIGN_OR_RETURN(leaf, store_.read(directory, path.leaf(), DirectoryForm::kEntries));
    RETURN_IF_ERROR(split_leaf(directory, path, leaf));
  }
  return fail(store_.corrupted(directory, 0, "a directory whose index does not get room by splitting"));
}

// The entries move to a block of their own, and their place becomes the root of an index.
Result<void> HTree::make_root(Inode& directory, DirectoryBlock& first) {
  const auto& entries = store_.entries();
  std::vector<Entry> kept;
  std::optional<Entry> dot, dotdot;
  entries.each(first.bytes(), 0, entries.end(), [&](const Entry& entry) {
    if (entry.inode == 0) return true;
    if (entry.name == "." && !dot)
      dot = entry;
    else if (entry.name == ".." && !dotdot)
      dotdot = entry;
    else
      kept.push_back(entry);
    return true;
  });
  if (!dot || !dotdot)
    return fail(store_.corrupted(directory, first.physical(), "a directory without \".\" or \"..\""));
  const auto format = store_.index_format();
  const InodeNumber parent = dotdot->inode;
  ASSIGN_OR_RETURN(const DirectoryBlock leaf,
                   store_.append(directory, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
                     pack(entries, bytes, first.bytes(), kept);
                   }));
  directory.raw.i_flags |= EXT2_INDEX_FL;
  RETURN_IF_ERROR(store_.change(directory, first, DirectoryForm::kRoot, [&](std::span<std::byte> bytes) {
    DxNodeEditor(bytes, DxNode::Kind::kRoot).make(format, leaf.index(), hasher_.version().value_or(0));
    entries.put(bytes, 0, entry_length(1), directory.number, ".", S_IFDIR);
    entries.put(bytes, entry_length(1), format.block_size - entry_length(1), parent, "..", S_IFDIR);
  }));
  store_.note_checked(directory);
  return store_.write_inode(directory);
}

// One split: of the leaf, or of what has no room for another leaf.
Result<void> HTree::grow(Inode& directory, Path& path, DirectoryBlock& leaf) {
  auto& frames = path.frames;
  std::size_t level = frames.size();
  while (level > 0 && frames[level - 1].node().is_full()) --level;
  if (level == frames.size()) return split_leaf(directory, path, leaf);
  if (level > 0) return split_node(directory, path, level);
  if (frames.size() >= store_.index_format().most_levels) return fail(ENOSPC);
  return add_level(directory, path);
}

Result<void> HTree::add_level(Inode& directory, Path& path) {
  auto& root = path.frames.front();
  const auto format = store_.index_format();
  // All of the root's entries move; nothing leads to them until the root does.
  ASSIGN_OR_RETURN(const DirectoryBlock node,
                   store_.append(directory, DirectoryForm::kNode, [&](std::span<std::byte> bytes) {
                     DxNodeEditor fresh(bytes, DxNode::Kind::kNode);
                     fresh.make(format, 0);
                     fresh.take(root.node(), 0);
                   }));
  return store_.change(directory, root.block, DirectoryForm::kRoot, [&](std::span<std::byte> bytes) {
    DxNodeEditor editor(bytes, DxNode::Kind::kRoot);
    editor.set_levels(editor.levels() + 1);
    editor.reduce_to(node.index());
  });
}

// The upper half goes to a new node, which the one above, where there is room, leads to.
Result<void> HTree::split_node(Inode& directory, Path& path, std::size_t level) {
  auto& full = path.frames[level];
  auto& above = path.frames[level - 1];
  const auto format = store_.index_format();
  const std::size_t kept = full.node().count() / 2;
  const std::uint32_t hash = full.node().hash(kept);
  ASSIGN_OR_RETURN(const DirectoryBlock node,
                   store_.append(directory, DirectoryForm::kNode, [&](std::span<std::byte> bytes) {
                     DxNodeEditor fresh(bytes, DxNode::Kind::kNode);
                     fresh.make(format, 0);
                     fresh.take(full.node(), kept);
                   }));
  RETURN_IF_ERROR(store_.change(directory, above.block, above.form(), [&](std::span<std::byte> bytes) {
    DxNodeEditor(bytes, above.kind).insert(above.at, hash, node.index());
  }));
  return store_.change(directory, full.block, full.form(),
                       [&](std::span<std::byte> bytes) { DxNodeEditor(bytes, full.kind).keep(kept); });
}

Result<void> HTree::split_leaf(Inode& directory, Path& path, DirectoryBlock& leaf) {
  const auto& entries = store_.entries();
  struct Hashed {
    std::uint32_t hash;
    Entry entry;
  };
  std::vector<Hashed> all;
  entries.each(leaf.bytes(), 0, entries.end(), [&](const Entry& entry) {
    if (entry.inode != 0) all.push_back({hasher_.of(entry.name, path.version).major, entry});
    return true;
  });
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair(a.hash, a.entry.offset) < std::pair(b.hash, b.entry.offset);
  });
  const auto next = path.next_hash();
  if (!all.empty() && (all.front().hash < (path.hash & ~1U) || (next && all.back().hash >= *next)))
    return fail(store_.corrupted(directory, leaf.physical(), "a directory block with names of another one"));
  if (all.size() < 2) {
    // Nobody leaves a block like this, but it can be: room in pieces.
    std::vector<Entry> only;
    if (!all.empty()) only.push_back(all[0].entry);
    return repack(directory, leaf, only);
  }
  // As ext4, so that directories are of one size whoever wrote them: at most half a block goes, or half of
  // the names where all is less than that.
  const std::size_t half = store_.index_format().block_size / 2;
  std::size_t kept = all.size();
  for (std::size_t bytes = 0; kept > 0 && bytes + all[kept - 1].entry.used() / 2 <= half; --kept)
    bytes += all[kept - 1].entry.used();
  if (kept == 0) kept = all.size() / 2;
  if (kept == all.size()) --kept;
  const std::uint32_t hash = all[kept].hash;
  const std::uint32_t continued = hash == all[kept - 1].hash ? 1 : 0;
  std::vector<Entry> lower, upper;
  for (std::size_t i = 0; i < all.size(); ++i) (i < kept ? lower : upper).push_back(all[i].entry);
  std::sort(lower.begin(), lower.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  ASSIGN_OR_RETURN(const DirectoryBlock fresh,
                   store_.append(directory, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
                     pack(entries, bytes, leaf.bytes(), upper);
                   }));
  auto& above = path.frames.back();
  RETURN_IF_ERROR(store_.change(directory, above.block, above.form(), [&](std::span<std::byte> bytes) {
    DxNodeEditor(bytes, above.kind).insert(above.at, hash | continued, fresh.index());
  }));
  return repack(directory, leaf, lower);
}

// Only these of its entries stay, with the room behind them.
Result<void> HTree::repack(const Inode& directory, DirectoryBlock& leaf, std::span<const Entry> kept) {
  return store_.change(directory, leaf, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
    const std::vector<std::byte> before(bytes.begin(), bytes.end());
    pack(store_.entries(), bytes, before, kept);
  });
}

}  // namespace fuse4fs::ext4
