// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: rename and exchange.
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {

Result<void> Ext4FileSystem::rename_unsynced(InodeNumber old_parent, std::string_view old_name,
                                             InodeNumber new_parent, std::string_view new_name,
                                             const RenameOptions& options) {
  const RenameMode mode = options.mode;
  auto metadata = metadata_.lock();
  ASSIGN_OR_RETURN(Named from, named(*metadata, old_parent, old_name));
  ASSIGN_OR_RETURN(Named to, named(*metadata, new_parent, new_name));
  if (!from.child) return fail(ENOENT);
  if (to.child && mode == RenameMode::kNoReplace) return fail(EEXIST);
  if (!to.child && mode == RenameMode::kExchange) return fail(ENOENT);
  if (options.whiteout && mode == RenameMode::kExchange) return fail(EINVAL);
  for (const auto& [parent, child] : {std::pair(old_parent, from.child), std::pair(new_parent, to.child)}) {
    if (child && (child->number == parent || child->number == kRootInode))
      return fail(volume_->corrupted(parent, 0, "a directory inside itself"));
  }
  // Two names of one file: nothing is to be done, whoever asks.
  if (to.child && to.child->number == from.child->number) return {};
  constexpr std::uint32_t kFixed = EXT2_IMMUTABLE_FL | EXT2_APPEND_FL;
  if (from.parent.has(kFixed) || from.child->has(kFixed) || to.parent.has(EXT2_IMMUTABLE_FL))
    return fail(EPERM);
  if (to.child && (to.parent.has(kFixed) || to.child->has(kFixed))) return fail(EPERM);
  // A directory that hands its project on takes only what is of it.
  const auto takes = [&](const Inode& directory, const Inode& child) {
    const auto& super = volume_->super();
    return !directory.has(EXT4_PROJINHERIT_FL) || directory.project(super) == child.project(super);
  };
  if (!takes(to.parent, *from.child)) return fail(EXDEV);
  if (mode == RenameMode::kExchange && !takes(from.parent, *to.child)) return fail(EXDEV);
  if (old_parent != new_parent) {
    if (from.child->is_directory()) {
      ASSIGN_OR_RETURN(const bool cycle, is_inside(*metadata, new_parent, from.child->number));
      if (cycle) return fail(EINVAL);
    }
    if (to.child && to.child->is_directory()) {
      ASSIGN_OR_RETURN(const bool cycle, is_inside(*metadata, old_parent, to.child->number));
      if (cycle) return fail(mode == RenameMode::kExchange ? EINVAL : ENOTEMPTY);
    }
  }
  if (mode == RenameMode::kExchange) return exchange_names(*metadata, from, old_name, to, new_name);
  return move_name(*metadata, from, old_name, to, new_name, options.whiteout);
}

// Whether `directory` is `ancestor` or lies in it.
Result<bool> Ext4FileSystem::is_inside(Metadata& metadata, InodeNumber directory, InodeNumber ancestor) {
  // A path cannot be longer than there are inodes: a volume with a circle ends here.
  for (std::uint32_t steps = volume_->super().s_inodes_count; directory != kRootInode; --steps) {
    if (directory == ancestor) return true;
    if (steps == 0) return fail(volume_->corrupted(directory, 0, "directories in a circle"));
    ASSIGN_OR_RETURN(Inode inode, metadata.inodes.read(directory));
    if (!inode.is_directory()) return fail(volume_->corrupted(directory, 0, "a file holds directories"));
    ASSIGN_OR_RETURN(directory, metadata.directories.parent_of(inode));
  }
  return ancestor == kRootInode;
}

Result<void> Ext4FileSystem::move_name(Metadata& metadata, Named& from, std::string_view old_name, Named& to,
                                       std::string_view new_name, const std::optional<NewInode>& whiteout) {
  // rename() has looked that they are there.
  Inode& moved = *from.child;  // NOLINT(bugprone-unchecked-optional-access)
  const bool same_parent = from.parent.number == to.parent.number;
  const bool is_directory = moved.is_directory();
  if (to.child) {
    if (is_directory && !to.child->is_directory()) return fail(ENOTDIR);
    if (!is_directory && to.child->is_directory()) return fail(EISDIR);
    if (is_directory) {
      ASSIGN_OR_RETURN(const bool empty, metadata.directories.is_empty(*to.child));
      if (!empty) return fail(ENOTEMPTY);
    }
  } else if (is_directory && !same_parent) {
    RETURN_IF_ERROR(may_link_more(metadata, to.parent));
  }
  std::optional<Inode> stand_in;
  if (whiteout) {
    ASSIGN_OR_RETURN(stand_in, metadata.inodes.create(from.parent, *whiteout));
  }
  // One inode in memory for one directory, or the second write would undo the first.
  Inode& target = same_parent ? from.parent : to.parent;
  // In the place of the other name: at no moment is there none.
  const auto placed = to.child ? metadata.directories.replace(target, new_name, moved.number, moved.mode())
                               : metadata.directories.insert(target, new_name, moved.number, moved.mode());
  if (!placed) {
    if (stand_in) discard(metadata, *stand_in);
    return placed;
  }
  if (is_directory) {
    // The one that is replaced makes up for the one that comes.
    if (to.child) count_subdirectory(metadata, from.parent, -1);
    if (!same_parent) {
      RETURN_IF_ERROR(metadata.directories.set_parent(moved, to.parent.number));
      if (!to.child) {
        count_subdirectory(metadata, to.parent, +1);
        count_subdirectory(metadata, from.parent, -1);
        RETURN_IF_ERROR(metadata.inodes.write(to.parent));
      }
    }
  }
  const Directory::Survivor survivor{
      .inode = moved.number, .mode = moved.mode(), .new_name = same_parent ? new_name : std::string_view()};
  if (stand_in) {
    RETURN_IF_ERROR(
        metadata.directories.replace(from.parent, old_name, stand_in->number, stand_in->mode(), survivor));
    // Nobody has looked it up.
    RETURN_IF_ERROR(metadata.inodes.forget(stand_in->number, 0));
  } else {
    RETURN_IF_ERROR(metadata.directories.remove(from.parent, old_name, survivor));
  }
  moved.touch_changed();
  RETURN_IF_ERROR(metadata.inodes.write(moved));
  if (!to.child) return {};
  // Its name leads to the other one only when that is on the device: until then it lives there.
  if (is_directory || to.child->raw.i_links_count == 1)
    RETURN_IF_ERROR(volume_->keep_earlier(to.child->number));
  return is_directory ? drop_directory(metadata, *to.child) : drop_link(metadata, *to.child);
}

Result<void> Ext4FileSystem::exchange_names(Metadata& metadata, Named& from, std::string_view old_name,
                                            Named& to, std::string_view new_name) {
  const bool same_parent = from.parent.number == to.parent.number;
  Inode& target = same_parent ? from.parent : to.parent;
  Inode& first = *from.child;  // NOLINT(bugprone-unchecked-optional-access)
  Inode& second = *to.child;   // NOLINT(bugprone-unchecked-optional-access)
  if (!same_parent && first.is_directory() != second.is_directory())
    RETURN_IF_ERROR(may_link_more(metadata, first.is_directory() ? to.parent : from.parent));
  RETURN_IF_ERROR(metadata.directories.replace(target, new_name, first.number, first.mode()));
  RETURN_IF_ERROR(metadata.directories.replace(from.parent, old_name, second.number, second.mode()));
  if (!same_parent) {
    if (first.is_directory()) {
      RETURN_IF_ERROR(metadata.directories.set_parent(first, to.parent.number));
      count_subdirectory(metadata, from.parent, -1);
      count_subdirectory(metadata, to.parent, +1);
    }
    if (second.is_directory()) {
      RETURN_IF_ERROR(metadata.directories.set_parent(second, from.parent.number));
      count_subdirectory(metadata, to.parent, -1);
      count_subdirectory(metadata, from.parent, +1);
    }
    RETURN_IF_ERROR(metadata.inodes.write(to.parent));
    RETURN_IF_ERROR(metadata.inodes.write(from.parent));
  }
  first.touch_changed();
  RETURN_IF_ERROR(metadata.inodes.write(first));
  second.touch_changed();
  return metadata.inodes.write(second);
}

}  // namespace fuse4fs::ext4
