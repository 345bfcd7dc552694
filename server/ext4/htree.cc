// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/htree.h"

#include <fmt/format.h>

#include "server/ext4/hash_listing.h"

namespace fuse4fs::ext4 {

std::uint32_t HTree::Path::leaf() const {
  if (frames.empty()) return 0;
  return frames.back().node().block(frames.back().at);
}

std::optional<std::uint32_t> HTree::Path::next_hash() const {
  for (std::size_t level = frames.size(); level > 0; --level) {
    const Frame& frame = frames[level - 1];
    if (frame.at + 1 < frame.node().count()) return frame.node().hash(frame.at + 1);
  }
  return std::nullopt;
}

// What the walk over a whole index has seen.
struct HTree::Walk {
  std::vector<bool> seen;
  std::uint32_t last = 0;  // hash
};

Result<void> HTree::check(const Inode& directory) {
  ASSIGN_OR_RETURN(const bool checked, store_.is_checked(directory));
  if (checked) return {};
  ASSIGN_OR_RETURN(const std::uint32_t count, store_.count(directory));
  Walk walk{std::vector<bool>(count), 0};
  walk.seen[0] = true;
  ASSIGN_OR_RETURN(const DirectoryBlock root, store_.read(directory, 0, DirectoryForm::kRoot));
  const DxNode node(root.bytes(), DxNode::Kind::kRoot);
  RETURN_IF_ERROR(check_node(directory, root, DxNode::Kind::kRoot, node.levels(), walk));
  store_.note_checked(directory);
  return {};
}

// In the order of the hashes. As many levels as the root says, and each block once: the walk ends.
Result<void> HTree::check_node(const Inode& directory, const DirectoryBlock& block, DxNode::Kind kind,
                               unsigned levels, Walk& walk) {
  const DxNode node(block.bytes(), kind);
  const auto wrong = [&](std::string_view words) {
    return fail(store_.corrupted(directory, block.physical(), words));
  };
  for (std::size_t i = 0; i < node.count(); ++i) {
    if (i > 0) {
      const std::uint32_t hash = node.hash(i);
      if (hash < walk.last || (hash == walk.last && (hash & 1) == 0))
        return wrong("an index node with a hash out of its range");
      walk.last = hash;
    }
    const std::uint32_t child = node.block(i);
    if (child >= walk.seen.size())
      return wrong(fmt::format("an index node leads outside of its directory, to {}", child));
    if (walk.seen[child]) return wrong(fmt::format("a directory's index leads to its block {} twice", child));
    walk.seen[child] = true;
    if (levels == 1) continue;
    ASSIGN_OR_RETURN(const DirectoryBlock next, store_.read(directory, child, DirectoryForm::kNode));
    RETURN_IF_ERROR(check_node(directory, next, DxNode::Kind::kNode, levels - 1, walk));
  }
  return {};
}

Result<void> HTree::start(const Inode& directory, Path& path) {
  path.frames.clear();
  if (!directory.has(EXT2_INDEX_FL)) {
    path.version = hasher_.version().value_or(0);
    return {};
  }
  RETURN_IF_ERROR(check(directory));
  ASSIGN_OR_RETURN(DirectoryBlock root, store_.read(directory, 0, DirectoryForm::kRoot));
  path.version = DxNode(root.bytes(), DxNode::Kind::kRoot).hash_version();
  path.frames.push_back({std::move(root), DxNode::Kind::kRoot, 0});
  return {};
}

Result<void> HTree::descend(const Inode& directory, Path& path, std::uint32_t hash) {
  auto& frames = path.frames;
  if (frames.empty()) return {};
  for (const unsigned levels = frames.front().node().levels();;) {
    Frame& frame = frames.back();
    frame.at = frame.node().position_of(hash);
    if (frame.at != 0) path.hash = frame.node().hash(frame.at);
    if (frames.size() == levels) return {};
    ASSIGN_OR_RETURN(DirectoryBlock next, store_.read(directory, path.leaf(), DirectoryForm::kNode));
    frames.push_back({std::move(next), DxNode::Kind::kNode, 0});
  }
}

Result<bool> HTree::step(const Inode& directory, Path& path) {
  auto& frames = path.frames;
  std::size_t level = frames.size();
  while (level > 0 && frames[level - 1].at + 1 >= frames[level - 1].node().count()) --level;
  if (level == 0) return false;
  Frame& turned = frames[level - 1];
  ++turned.at;
  path.hash = turned.node().hash(turned.at);
  for (; level < frames.size(); ++level) {
    const Frame& above = frames[level - 1];
    ASSIGN_OR_RETURN(frames[level].block,
                     store_.read(directory, above.node().block(above.at), DirectoryForm::kNode));
    frames[level].at = 0;
  }
  return true;
}

Result<HTree::Position> HTree::find(const Inode& directory, std::string_view name) {
  const auto& entries = store_.entries();
  Position position;
  const auto look = [&](std::uint32_t index) -> Result<void> {
    ASSIGN_OR_RETURN(position.leaf, store_.read(directory, index, DirectoryForm::kEntries));
    const auto search = entries.search(position.leaf->bytes(), 0, entries.end(), name);
    position.roomy = search.roomy;
    if (!search.found) return {};
    position.place = *search.found;
    position.inode = search.found->entry.inode;
    return {};
  };
  if (!directory.has(EXT2_INDEX_FL)) {
    RETURN_IF_ERROR(look(0));
    return position;
  }
  Path path;
  RETURN_IF_ERROR(start(directory, path));
  const std::uint32_t hash = hasher_.of(name, path.version).major;
  RETURN_IF_ERROR(descend(directory, path, hash));
  bool first = true;
  for (;; first = false) {
    RETURN_IF_ERROR(look(path.leaf()));
    if (position.inode) return position;
    // Names of one hash may go on in the next leaf.
    const auto next = path.next_hash();
    if (!next || (*next & ~1U) != hash) break;
    RETURN_IF_ERROR(step(directory, path));
  }
  // A new one goes to the first of them.
  if (!first) position.leaf.reset();
  return position;
}

Result<void> HTree::collect(const Inode& directory, const Path& path, HashListing& listing) {
  ASSIGN_OR_RETURN(const DirectoryBlock leaf, store_.read(directory, path.leaf(), DirectoryForm::kEntries));
  const auto next = path.next_hash();
  const bool inside = store_.entries().each(leaf.bytes(), 0, store_.entries().end(), [&](const auto& entry) {
    if (entry.inode == 0) return true;
    if (is_dots(entry.name)) return path.frames.empty();
    const NameHash hash = hasher_.of(entry.name, path.version);
    if (!path.frames.empty() && (hash.major < (path.hash & ~1U) || (next && hash.major >= *next)))
      return false;
    if (hash.major >= listing.first_hash()) listing.add(hash, entry);
    return true;
  });
  if (!inside)
    return fail(store_.corrupted(directory, leaf.physical(), "a directory block with names of another one"));
  return {};
}

Result<void> HTree::list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink) {
  HashListing listing(cookie, sink);
  if (cookie < HashListing::kFirst) {
    InodeNumber parent = 0;
    if (directory.has(EXT2_INDEX_FL)) {
      ASSIGN_OR_RETURN(parent, parent_of(directory));
    } else {
      ASSIGN_OR_RETURN(const auto dotdot, store_.dotdot(directory));
      parent = dotdot.entry.inode;
    }
    if (!listing.dots(directory.number, parent)) return {};
  }
  Path path;
  RETURN_IF_ERROR(start(directory, path));
  RETURN_IF_ERROR(descend(directory, path, listing.first_hash()));
  while (true) {
    RETURN_IF_ERROR(collect(directory, path, listing));
    // Names of one hash are given together: they may go on in the next leaf.
    const auto next = path.next_hash();
    if (!next || (*next & 1) == 0) {
      const auto more = listing.give();
      if (!more) return fail(store_.corrupted(directory, 0, "a directory holds a name twice"));
      if (!*more || !next) return {};
    } else if (listing.waiting() > HashListing::kMostOfOneHash) {
      return fail(ENOMEM);
    }
    RETURN_IF_ERROR(step(directory, path));
  }
}

Result<InodeNumber> HTree::parent_of(const Inode& directory) {
  ASSIGN_OR_RETURN(const DirectoryBlock root, store_.read(directory, 0, DirectoryForm::kRoot));
  return DxNode(root.bytes(), DxNode::Kind::kRoot).parent();
}

Result<void> HTree::set_parent(const Inode& directory, InodeNumber parent) {
  ASSIGN_OR_RETURN(DirectoryBlock root, store_.read(directory, 0, DirectoryForm::kRoot));
  return store_.change(directory, root, DirectoryForm::kRoot, [&](std::span<std::byte> bytes) {
    DxNodeEditor(bytes, DxNode::Kind::kRoot).set_parent(parent);
  });
}

Result<std::uint64_t> HTree::remove(const Inode& directory, std::string_view name, Position position) {
  if (!position.leaf || !position.leaf->is_unchanged_by_others()) {
    ASSIGN_OR_RETURN(position, find(directory, name));
  }
  if (!position.inode) return fail(ENOENT);
  RETURN_IF_ERROR(
      store_.change(directory, *position.leaf, DirectoryForm::kEntries,
                    [&](std::span<std::byte> bytes) { store_.entries().remove(bytes, position.place); }));
  return position.leaf->physical();
}

Result<std::uint64_t> HTree::replace(const Inode& directory, std::string_view name, InodeNumber inode,
                                     mode_t mode) {
  ASSIGN_OR_RETURN(auto position, find(directory, name));
  if (!position.inode) return fail(ENOENT);
  RETURN_IF_ERROR(
      store_.change(directory, *position.leaf, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
        store_.entries().replace(bytes, position.place.entry, inode, mode);
      }));
  return position.leaf->physical();
}

}  // namespace fuse4fs::ext4
