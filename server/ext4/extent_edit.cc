// SPDX-License-Identifier: GPL-2.0-or-later
// ExtentMap: single extents put in, split, joined, converted and taken out, over libext2fs's handle.
#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "server/ext4/extent_handle.h"
#include "server/ext4/extent_map.h"

namespace fuse4fs::ext4 {

Result<ExtentHandle> open_extents(Volume& volume, Inode& inode) {
  ext2_extent_handle_t handle = nullptr;
  RETURN_IF_ERROR(volume.check(ext2fs_extent_open2(volume.fs(), inode.number, inode.brief(), &handle),
                               inode.number, "opening the extent tree"));
  return ExtentHandle(handle);
}

namespace {

Mapping::Kind kind_of(const ext2fs_extent& extent) {
  return (extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) != 0 ? Mapping::Kind::kUnwritten
                                                          : Mapping::Kind::kWritten;
}

ext2fs_extent leaf(std::uint64_t logical, std::uint64_t physical, std::uint64_t count, Mapping::Kind kind) {
  ext2fs_extent extent{};
  extent.e_lblk = logical;
  extent.e_pblk = physical;
  extent.e_len = static_cast<__u32>(count);
  extent.e_flags =
      EXT2_EXTENT_FLAGS_LEAF | (kind == Mapping::Kind::kUnwritten ? EXT2_EXTENT_FLAGS_UNINIT : 0U);
  return extent;
}

// What `extent` holds from `from` to before `to`, as `kind`.
ext2fs_extent part_of(const ext2fs_extent& extent, std::uint64_t from, std::uint64_t to, Mapping::Kind kind) {
  return leaf(from, extent.e_pblk + (from - extent.e_lblk), to - from, kind);
}

bool follows(const ext2fs_extent& first, const ext2fs_extent& second) {
  return first.e_lblk + first.e_len == second.e_lblk && first.e_pblk + first.e_len == second.e_pblk &&
         kind_of(first) == kind_of(second) &&
         std::uint64_t{first.e_len} + second.e_len <= longest_extent(kind_of(first));
}

// One extent of a tree, and what may be done with it.
class Editor {
 public:
  static Result<Editor> at(Volume& volume, Inode& inode, std::uint64_t logical) {
    Editor editor(volume, inode);
    RETURN_IF_ERROR(editor.go_to(logical));
    return editor;
  }

  [[nodiscard]] const ext2fs_extent& extent() const { return extent_; }
  [[nodiscard]] std::uint64_t end() const { return extent_.e_lblk + extent_.e_len; }

  // `pieces` take its place: parts of it in their order. Nothing has changed if there is no room for a node.
  Result<void> substitute(std::span<const ext2fs_extent> pieces) {
    if (pieces.empty()) return take_out();
    RETURN_IF_ERROR(replace(pieces[0]));
    RETURN_IF_ERROR(fix_parents());
    for (std::size_t i = 1; i < pieces.size(); ++i) {
      ext2fs_extent piece = pieces[i];
      auto done = check(ext2fs_extent_insert(handle_.get(), EXT2_EXTENT_INSERT_AFTER, &piece));
      if (done) done = fix_parents();
      if (done) continue;
      RETURN_IF_ERROR(put_back(pieces.first(i)));
      return done;
    }
    return {};
  }

  // Its part from `from` to `to`, at one of its ends, joins the neighbour there, if that is in the same node
  // and fits.
  Result<bool> hand_over(std::uint64_t from, std::uint64_t to, Mapping::Kind kind) {
    const ext2fs_extent part = part_of(extent_, from, to, kind);
    const bool at_begin = from == extent_.e_lblk;
    if (at_begin) {
      const auto before = neighbour(EXT2_EXTENT_PREV_SIB);
      if (before && follows(*before, part)) {
        RETURN_IF_ERROR(replace(leaf(before->e_lblk, before->e_pblk, before->e_len + part.e_len, kind)));
        RETURN_IF_ERROR(go_to_whole(extent_, EXT2_EXTENT_NEXT_SIB));
        RETURN_IF_ERROR(keep(to, end()));
        return true;
      }
      RETURN_IF_ERROR(go_to(extent_.e_lblk));
    }
    if (to == end()) {
      const auto after = neighbour(EXT2_EXTENT_NEXT_SIB);
      if (after && follows(part, *after)) {
        RETURN_IF_ERROR(replace(leaf(part.e_lblk, part.e_pblk, part.e_len + after->e_len, kind)));
        RETURN_IF_ERROR(go_to_whole(extent_, EXT2_EXTENT_PREV_SIB));
        RETURN_IF_ERROR(keep(extent_.e_lblk, from));
        return true;
      }
      RETURN_IF_ERROR(go_to(extent_.e_lblk));
    }
    return false;
  }

 private:
  Editor(Volume& volume, Inode& inode) : volume_(&volume), inode_(&inode) {}

  Result<void> check(errcode_t code) {
    return volume_->check(code, inode_->number, "changing the extent tree");
  }

  Result<void> go_to(std::uint64_t logical) {
    ASSIGN_OR_RETURN(handle_, open_extents(*volume_, *inode_));
    RETURN_IF_ERROR(check(ext2fs_extent_goto(handle_.get(), logical)));
    return check(ext2fs_extent_get(handle_.get(), EXT2_EXTENT_CURRENT, &extent_));
  }

  // Back from a neighbour to the extent itself, which a search could miss now that the two overlap.
  Result<void> go_to_whole(const ext2fs_extent& whole, int direction) {
    ext2fs_extent found{};
    RETURN_IF_ERROR(check(ext2fs_extent_get(handle_.get(), direction, &found)));
    if (found.e_pblk != whole.e_pblk || found.e_len != whole.e_len)
      return fail(volume_->corrupted(inode_->number, found.e_pblk, "the extent tree changed under a change"));
    return {};
  }

  std::optional<ext2fs_extent> neighbour(int direction) {
    ext2fs_extent found{};
    if (ext2fs_extent_get(handle_.get(), direction, &found) != 0) return std::nullopt;
    return found;
  }

  Result<void> fix_parents() {
    const errcode_t code = ext2fs_extent_fix_parents(handle_.get());
    return code == EXT2_ET_NO_CURRENT_NODE ? Result<void>() : check(code);
  }

  Result<void> replace(ext2fs_extent with) { return check(ext2fs_extent_replace(handle_.get(), 0, &with)); }

  Result<void> keep(std::uint64_t from, std::uint64_t to) {
    return from < to ? replace(part_of(extent_, from, to, kind_of(extent_))) : take_out();
  }

  Result<void> take_out() {
    RETURN_IF_ERROR(check(ext2fs_extent_delete(handle_.get(), 0)));
    return fix_parents();
  }

  Result<void> put_back(std::span<const ext2fs_extent> pieces) {
    const ext2fs_extent whole = extent_;
    for (const ext2fs_extent& piece : pieces.subspan(1)) {
      RETURN_IF_ERROR(go_to(piece.e_lblk));
      RETURN_IF_ERROR(take_out());
    }
    RETURN_IF_ERROR(go_to(pieces[0].e_lblk));
    RETURN_IF_ERROR(replace(whole));
    return fix_parents();
  }

  Volume* volume_;
  Inode* inode_;
  ExtentHandle handle_;
  ext2fs_extent extent_{};
};

}  // namespace

Result<void> ExtentMap::insert_extent(Inode& inode, const Mapping& part) {
  ASSIGN_OR_RETURN(const auto handle, open_extents(volume_, inode));
  const auto check = [&](errcode_t code) { return volume_.check(code, inode.number, "inserting an extent"); };
  ext2fs_extent fresh = leaf(part.logical, part.physical, part.count, part.kind);

  if (const errcode_t code = ext2fs_extent_goto(handle.get(), part.logical); code == 0)
    return fail(volume_.corrupted(inode.number, part.physical, "a hole of the extent tree is mapped"));
  else if (code != EXT2_ET_EXTENT_NOT_FOUND && code != EXT2_ET_NO_CURRENT_NODE)
    return check(code);
  ext2fs_extent near{};
  const errcode_t code = ext2fs_extent_get(handle.get(), EXT2_EXTENT_CURRENT, &near);
  if (code == EXT2_ET_NO_CURRENT_NODE) return check(ext2fs_extent_insert(handle.get(), 0, &fresh));
  RETURN_IF_ERROR(check(code));

  if (near.e_lblk < part.logical) {
    if (follows(near, fresh)) {
      near.e_len += fresh.e_len;
      return check(ext2fs_extent_replace(handle.get(), 0, &near));
    }
    RETURN_IF_ERROR(check(ext2fs_extent_insert(handle.get(), EXT2_EXTENT_INSERT_AFTER, &fresh)));
  } else if (follows(fresh, near)) {
    fresh.e_len += near.e_len;
    RETURN_IF_ERROR(check(ext2fs_extent_replace(handle.get(), 0, &fresh)));
  } else {
    RETURN_IF_ERROR(check(ext2fs_extent_insert(handle.get(), 0, &fresh)));
  }
  return check(ext2fs_extent_fix_parents(handle.get()));
}

Result<void> ExtentMap::convert(Inode& inode, std::uint64_t first, std::uint64_t count, Mapping::Kind kind) {
  const auto library = volume_.library();
  const std::uint64_t end = first + count;
  while (first < end) {
    ASSIGN_OR_RETURN(const Mapping here, find_extent(inode, first));
    if (here.kind == Mapping::Kind::kHole || here.kind == kind) {
      first += here.count;
      continue;
    }
    ASSIGN_OR_RETURN(Editor editor, Editor::at(volume_, inode, first));
    const ext2fs_extent whole = editor.extent();
    const std::uint64_t to = std::min(end, editor.end());
    ASSIGN_OR_RETURN(const bool joined, editor.hand_over(first, to, kind));
    if (!joined) {
      std::vector<ext2fs_extent> pieces;
      if (whole.e_lblk < first) pieces.push_back(part_of(whole, whole.e_lblk, first, here.kind));
      for (std::uint64_t from = first; from < to;) {
        const std::uint64_t behind = std::min(to, from + longest_extent(kind));
        pieces.push_back(part_of(whole, from, behind, kind));
        from = behind;
      }
      if (to < editor.end()) pieces.push_back(part_of(whole, to, editor.end(), here.kind));
      RETURN_IF_ERROR(editor.substitute(pieces));
    }
    first = to;
  }
  return {};
}

// `freed` counts clusters.
Result<void> ExtentMap::remove_extents(Inode& inode, std::uint64_t first, std::uint64_t count,
                                       std::uint64_t& freed) {
  const std::uint64_t end = first + count;
  while (first < end) {
    ASSIGN_OR_RETURN(const Mapping here, find_extent(inode, first));
    if (here.kind == Mapping::Kind::kHole) {
      first += here.count;
      continue;
    }
    ASSIGN_OR_RETURN(Editor editor, Editor::at(volume_, inode, first));
    const ext2fs_extent whole = editor.extent();
    const std::uint64_t to = std::min(end, editor.end());
    std::vector<ext2fs_extent> pieces;
    if (whole.e_lblk < first) pieces.push_back(part_of(whole, whole.e_lblk, first, here.kind));
    if (to < editor.end()) pieces.push_back(part_of(whole, to, editor.end(), here.kind));
    RETURN_IF_ERROR(editor.substitute(pieces));
    ASSIGN_OR_RETURN(const std::uint64_t gone, free_extent(inode, first, here.physical, to - first));
    freed += gone;
    first = to;
  }
  return {};
}

}  // namespace fuse4fs::ext4
