// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/write_order.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>

#include "server/ext4/crc32c.h"
#include "server/ext4/directory_entries.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

using cache::BlockKind;
using Block = cache::WriteBack::Block;

bool is_directory(BlockKind kind) {
  return kind == BlockKind::kDirectoryLeaf || kind == BlockKind::kDirectoryIndex;
}

// The level of a node of an extent tree: 0 for leaves, and for what is none.
unsigned level_of(std::span<const std::byte> bytes) {
  ext3_extent_header header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  constexpr unsigned kMostLevels = 5;
  return header.eh_magic == EXT3_EXT_MAGIC ? std::min<unsigned>(header.eh_depth, kMostLevels) : 0;
}

// A leaf of a directory with a fresh checksum.
void seal(Volume& volume, const RemovedName& name, std::span<std::byte> bytes) {
  if (!volume.has_checksums()) return;
  std::uint32_t sum = volume.fs()->csum_seed;
  sum = crc32c(sum, &name.directory, sizeof name.directory);
  sum = crc32c(sum, &name.generation, sizeof name.generation);
  sum = crc32c(sum, bytes.data(), bytes.size() - sizeof(ext2_dir_entry_tail));
  std::memcpy(bytes.data() + bytes.size() - sizeof sum, &sum, sizeof sum);
}

}  // namespace

struct WriteOrder::Steps {
  Step fresh, inodes, others, inodes_again, names_again;
  Step free;  // of any order
  std::map<unsigned, Step, std::greater<>> trees;
};

void WriteOrder::place_inodes(const Block& block, std::size_t index, const OrderNotes& notes,
                              Steps& steps) const {
  Item item{.index = index, .image = {}};
  if (const auto found = notes.earlier_inodes.find(block.block); found != notes.earlier_inodes.end()) {
    const auto with = [&](std::span<std::byte> image, const EarlierInode& earlier) {
      std::ranges::copy(earlier.bytes, image.begin() + static_cast<std::ptrdiff_t>(earlier.offset));
    };
    Item alive{.index = index, .image = {block.bytes.begin(), block.bytes.end()}};
    bool names = false, lives = false;
    for (const auto& [number, earlier] : found->second) {
      const bool is_life = earlier.keeps == EarlierInode::Keeps::kLife;
      (is_life ? lives : names) = true;
      if (is_life) with(alive.image, earlier);
    }
    item.image = alive.image;
    for (const auto& [number, earlier] : found->second) with(item.image, earlier);
    Item whole{.index = index, .image = {}};
    if (names) steps.inodes_again.push_back(lives ? std::move(alive) : std::move(whole));
    if (lives) steps.names_again.push_back({.index = index, .image = {}});
  }
  steps.inodes.push_back(std::move(item));
}

void WriteOrder::place_names(const Block& block, std::size_t index, const OrderNotes& notes,
                             Steps& steps) const {
  const bool is_fresh = notes.taken.contains(block.block);
  Step& step = is_fresh ? steps.fresh : steps.others;
  const auto [first, end] = notes.removed_names.equal_range(block.block);
  const Item whole{.index = index, .image = {}};
  if (first == end) {
    step.push_back(whole);
    return;
  }
  // The old state stays on the device for now; but a fresh one has none, and others rely on it.
  Step& without = is_fresh ? steps.fresh : steps.inodes_again;
  // Its names went elsewhere.
  if (block.role.kind != BlockKind::kDirectoryLeaf) {
    without.push_back(whole);
    return;
  }
  const DirectoryEntries entries(volume_);
  Item with_names{.index = index, .image = {block.bytes.begin(), block.bytes.end()}};
  const std::span<std::byte> bytes(with_names.image);
  bool changed = false, replaced = false;
  for (auto removed = first; removed != end; ++removed) {
    const RemovedName& name = removed->second;
    if (!name.new_name.empty()) {
      const auto now = entries.find(block.bytes, 0, entries.end(), name.new_name);
      if (now && now->entry.inode == name.inode) continue;
    }
    if (const auto found = entries.find(bytes, 0, entries.end(), name.name)) {
      entries.put(bytes, found->entry.offset, found->entry.length, name.inode, name.name, name.mode);
      replaced = true;
    } else if (!entries.insert(bytes, 0, entries.end(), name.name, name.inode, name.mode)) {
      without.push_back(whole);
      return;
    }
    changed = true;
  }
  if (!changed) {
    step.push_back(whole);
    return;
  }
  seal(volume_, first->second, bytes);
  step.push_back(std::move(with_names));
  (replaced ? steps.inodes_again : steps.names_again).push_back(whole);
}

std::vector<WriteOrder::Step> WriteOrder::plan(const std::vector<Block>& blocks,
                                               const OrderNotes& notes) const {
  Steps steps;
  for (std::size_t index = 0; index < blocks.size(); ++index) {
    const Block& block = blocks[index];
    const Item whole{.index = index, .image = {}};
    if (block.role.kind == BlockKind::kInodeTable || volume_.is_inode_table(block.block))
      place_inodes(block, index, notes, steps);
    else if (!volume_.may_be_owned(block.block, 1))
      steps.free.push_back(whole);
    else if (is_directory(block.role.kind))
      place_names(block, index, notes, steps);
    else if (notes.taken.contains(block.block))
      steps.fresh.push_back(whole);
    else if (notes.trees_grew)
      steps.trees[level_of(block.bytes)].push_back(whole);
    else
      steps.inodes.push_back(whole);
  }
  // In block order: neighbours go in one request.
  const auto join = [](Step& step, Step& more) {
    step.insert(step.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    more.clear();
    std::sort(step.begin(), step.end(), [](const Item& a, const Item& b) { return a.index < b.index; });
  };
  join(steps.fresh.empty() ? steps.inodes : steps.fresh, steps.free);
  std::vector<Step> all;
  const auto add = [&](Step& step) {
    if (!step.empty()) all.push_back(std::move(step));
  };
  add(steps.fresh);
  add(steps.inodes);
  for (auto& [level, step] : steps.trees) add(step);
  add(steps.others);
  add(steps.inodes_again);
  add(steps.names_again);
  return all;
}

}  // namespace fuse4fs::ext4
