// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: what is done with names, but for rename (rename.cc).
#include <algorithm>
#include <cstring>

#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

constexpr unsigned kMostLinks = 65000;

Result<void> judge_name(std::string_view name) {
  if (name.empty()) return fail(ENOENT);
  if (name.size() > kMaxNameLength) return fail(ENAMETOOLONG);
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return fail(EINVAL);
  return {};
}

}  // namespace

Result<Inode> Ext4FileSystem::directory(Metadata& metadata, InodeNumber number) {
  RETURN_IF_ERROR(volume_->check_alive());
  ASSIGN_OR_RETURN(const Inode inode, metadata.inodes.read(number));
  if (!inode.is_directory()) return fail(ENOTDIR);
  return inode;
}

Result<Ext4FileSystem::Named> Ext4FileSystem::named(Metadata& metadata, InodeNumber parent,
                                                    std::string_view name) {
  RETURN_IF_ERROR(volume_->check_writable());
  RETURN_IF_ERROR(judge_name(name));
  ASSIGN_OR_RETURN(Inode inode, metadata.inodes.read_for_change(parent));
  if (!inode.is_directory()) return fail(ENOTDIR);
  if (inode.raw.i_links_count == 0) return fail(ENOENT);
  if (is_dots(name)) return fail(EINVAL);
  ASSIGN_OR_RETURN(const auto number, metadata.directories.find(inode, name));
  Named found{inode, std::nullopt};
  if (number) {
    ASSIGN_OR_RETURN(found.child, metadata.inodes.read_for_change(*number));
    if (found.child->raw.i_links_count == 0)
      return fail(volume_->corrupted(*number, 0, "a name leads to a deleted inode"));
  }
  return found;
}

Result<Attributes> Ext4FileSystem::lookup(InodeNumber parent, std::string_view name) {
  RETURN_IF_ERROR(judge_name(name));
  if (name == ".") return look_up_handle(parent);
  auto metadata = metadata_.lock();
  ASSIGN_OR_RETURN(Inode inode, directory(*metadata, parent));
  if (inode.raw.i_links_count == 0) return fail(ENOENT);
  InodeNumber number = parent;
  if (name == "..") {
    ASSIGN_OR_RETURN(number, metadata->directories.parent_of(inode));
  } else {
    ASSIGN_OR_RETURN(const auto found, metadata->directories.find(inode, name));
    if (!found) return fail(ENOENT);
    number = *found;
  }
  ASSIGN_OR_RETURN(const Inode child, metadata->inodes.read(number));
  if (child.raw.i_links_count == 0)
    return fail(volume_->corrupted(number, 0, "a name leads to a deleted inode"));
  metadata->inodes.remember(number);
  return attributes_of(*volume_, child);
}

Result<Attributes> Ext4FileSystem::look_up_inode(InodeNumber number) {
  auto metadata = metadata_.lock();
  RETURN_IF_ERROR(volume_->check_alive());
  // Since the name was listed the inode may have gone: that is no corruption.
  const auto& super = volume_->super();
  if (number == 0 || number > super.s_inodes_count || !metadata->inode_bitmap.in_use(number))
    return fail(ENOENT);
  ASSIGN_OR_RETURN(const Inode inode, metadata->inodes.read(number));
  if (inode.raw.i_links_count == 0) return fail(ENOENT);
  metadata->inodes.remember(number);
  return attributes_of(*volume_, inode);
}

Result<Attributes> Ext4FileSystem::look_up_handle(std::uint64_t number) {
  auto metadata = metadata_.lock();
  RETURN_IF_ERROR(volume_->check_alive());
  ASSIGN_OR_RETURN(const Inode inode, metadata->inodes.read_from_handle(number));
  metadata->inodes.remember(inode.number);
  return attributes_of(*volume_, inode);
}

// With an index, a directory may have more subdirectories than can be counted.
Result<void> Ext4FileSystem::may_link_more(const Metadata& metadata, const Inode& directory) const {
  if (directory.raw.i_links_count < kMostLinks) return {};
  if (ext2fs_has_feature_dir_nlink(volume_->super_pointer()) && metadata.directories.is_indexed(directory))
    return {};
  return fail(EMLINK);
}

// As ext4: 1 stands for "more than can be counted", and stays as long as there is an index.
void Ext4FileSystem::count_subdirectory(const Metadata& metadata, Inode& directory, int change) {
  auto& links = directory.raw.i_links_count;
  if (change < 0) {
    if (links > 2) --links;
    return;
  }
  ++links;
  if (metadata.directories.is_indexed(directory) && (links > kMostLinks || links == 2)) links = 1;
}

Result<Attributes> Ext4FileSystem::make_symlink_unsynced(InodeNumber parent, std::string_view name,
                                                         std::string_view target, const NewInode& what) {
  if (target.empty()) return fail(ENOENT);
  if (target.size() >= volume_->block_size()) return fail(ENAMETOOLONG);
  if (target.find('\0') != std::string_view::npos) return fail(EINVAL);
  NewInode link = what;
  link.mode = S_IFLNK | 0777;
  return make_inode(parent, name, link, target);
}

Result<Attributes> Ext4FileSystem::make_inode(InodeNumber parent, std::string_view name, const NewInode& what,
                                              std::optional<std::string_view> target) {
  switch (what.mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    case S_IFLNK:
      if (target) break;
      [[fallthrough]];
    default:
      return fail(EINVAL);
  }
  auto metadata = metadata_.lock();
  ASSIGN_OR_RETURN(Named place, named(*metadata, parent, name));
  if (place.child) return fail(EEXIST);
  if (place.parent.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  const bool is_directory = S_ISDIR(what.mode);
  if (is_directory) RETURN_IF_ERROR(may_link_more(*metadata, place.parent));
  ASSIGN_OR_RETURN(Inode inode, metadata->inodes.create(place.parent, what));
  Result<void> done;
  if (target) done = set_target(*metadata, inode, *target);
  if (is_directory) done = metadata->directories.make_first_block(inode, parent);
  // As create() left it, it is written already.
  if (done && (target || is_directory)) done = metadata->inodes.write(inode);
  if (done) done = metadata->directories.insert(place.parent, name, inode.number, inode.mode());
  if (!done) {
    discard(*metadata, inode);
    return fail(done.error());
  }
  if (is_directory) {
    count_subdirectory(*metadata, place.parent, +1);
    RETURN_IF_ERROR(metadata->inodes.write(place.parent));
  }
  metadata->inodes.remember(inode.number);
  return attributes_of(*volume_, inode);
}

// As if it had never been.
void Ext4FileSystem::discard(Metadata& metadata, Inode& inode) {
  metadata.inodes.discard(inode);
  metadata.directories.forget(inode.number);
}

Result<Attributes> Ext4FileSystem::make_temporary_unsynced(InodeNumber parent_number, const NewInode& what) {
  if (!S_ISREG(what.mode)) return fail(EINVAL);
  auto metadata = metadata_.lock();
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode parent, metadata->inodes.read_for_change(parent_number));
  if (!parent.is_directory()) return fail(ENOTDIR);
  // As ext4: of a directory that is removed it is not ENOENT.
  if (parent.raw.i_links_count == 0 || parent.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  ASSIGN_OR_RETURN(Inode inode, metadata->inodes.create(parent, what));
  inode.raw.i_links_count = 0;
  metadata->inodes.wait_for_name(inode.number);
  if (const auto done = metadata->inodes.write(inode); !done) {
    discard(*metadata, inode);
    return fail(done.error());
  }
  metadata->inodes.remember(inode.number);
  return attributes_of(*volume_, inode);
}

Result<void> Ext4FileSystem::set_target(Metadata& metadata, Inode& inode, std::string_view target) {
  inode.set_size(target.size());
  if (target.size() < sizeof inode.raw.i_block) {
    std::memcpy(inode.raw.i_block, target.data(), target.size());
    return {};
  }
  metadata.extents.initialise(inode);
  ASSIGN_OR_RETURN(const BlockRun run, metadata.blocks.take(metadata.extents.goal_for(inode, 0), 1));
  std::vector<std::byte> block(volume_->block_size());
  std::memcpy(block.data(), target.data(), target.size());
  auto done = volume_->cache().write(run.first << volume_->block_bits(), block);
  if (done) done = metadata.extents.insert(inode, 0, run.first, 1);
  if (!done) {
    (void)metadata.blocks.give_back(run, inode.number);
    return done;
  }
  return metadata.extents.add_blocks(inode, 1);
}

Result<Attributes> Ext4FileSystem::link_unsynced(InodeNumber number, InodeNumber new_parent,
                                                 std::string_view new_name) {
  auto metadata = metadata_.lock();
  ASSIGN_OR_RETURN(Named place, named(*metadata, new_parent, new_name));
  ASSIGN_OR_RETURN(Inode inode, metadata->inodes.read(number));
  if (inode.is_directory()) return fail(EPERM);
  if (place.child) return fail(EEXIST);
  if (inode.raw.i_links_count == 0 && !metadata->inodes.waits_for_name(number)) return fail(ENOENT);
  if (inode.has(EXT2_IMMUTABLE_FL | EXT2_APPEND_FL) || place.parent.has(EXT2_IMMUTABLE_FL))
    return fail(EPERM);
  if (inode.raw.i_links_count >= kMostLinks) return fail(EMLINK);
  if (place.parent.has(EXT4_PROJINHERIT_FL) &&
      place.parent.project(volume_->super()) != inode.project(volume_->super()))
    return fail(EXDEV);
  // The count first: after a crash one link too many costs space, one too few costs data.
  ++inode.raw.i_links_count;
  inode.touch_changed();
  RETURN_IF_ERROR(metadata->inodes.write(inode));
  if (const auto done = metadata->directories.insert(place.parent, new_name, number, inode.mode()); !done) {
    --inode.raw.i_links_count;
    (void)metadata->inodes.write(inode);
    return fail(done.error());
  }
  metadata->inodes.settle(number);
  metadata->inodes.remember(number);
  return attributes_of(*volume_, inode);
}

Result<void> Ext4FileSystem::unlink_unsynced(InodeNumber parent, std::string_view name) {
  auto metadata = metadata_.lock();
  ASSIGN_OR_RETURN(Named place, named(*metadata, parent, name));
  if (!place.child) return fail(ENOENT);
  if (place.child->is_directory()) return fail(EISDIR);
  constexpr std::uint32_t kFixed = EXT2_IMMUTABLE_FL | EXT2_APPEND_FL;
  if (place.parent.has(kFixed) || place.child->has(kFixed)) return fail(EPERM);
  Directory::Survives survivor;
  if (place.child->raw.i_links_count > 1)
    survivor = Directory::Survivor{.inode = place.child->number, .mode = place.child->mode()};
  RETURN_IF_ERROR(metadata->directories.remove(place.parent, name, survivor));
  return drop_link(*metadata, *place.child);
}

Result<void> Ext4FileSystem::drop_link(Metadata& metadata, Inode& inode) {
  --inode.raw.i_links_count;
  inode.touch_changed();
  RETURN_IF_ERROR(metadata.inodes.write(inode));
  if (inode.raw.i_links_count != 0) return {};
  return metadata.inodes.orphan(inode);
}

Result<void> Ext4FileSystem::remove_directory_unsynced(InodeNumber parent, std::string_view name) {
  if (name == ".") return fail(EINVAL);
  if (name == "..") return fail(ENOTEMPTY);
  auto metadata = metadata_.lock();
  ASSIGN_OR_RETURN(Named place, named(*metadata, parent, name));
  if (!place.child) return fail(ENOENT);
  if (!place.child->is_directory()) return fail(ENOTDIR);
  constexpr std::uint32_t kFixed = EXT2_IMMUTABLE_FL | EXT2_APPEND_FL;
  if (place.parent.has(kFixed) || place.child->has(kFixed)) return fail(EPERM);
  if (place.child->number == kRootInode || place.child->number == parent)
    return fail(volume_->corrupted(parent, 0, "a directory inside itself"));
  ASSIGN_OR_RETURN(const bool empty, metadata->directories.is_empty(*place.child));
  if (!empty) return fail(ENOTEMPTY);
  count_subdirectory(*metadata, place.parent, -1);
  RETURN_IF_ERROR(metadata->directories.remove(place.parent, name));
  // Its blocks stay until it is forgotten. As ext4, which does not do this to one that a rename replaces.
  place.child->set_size(0);
  return drop_directory(*metadata, *place.child);
}

// The name is gone, and the parent no longer counts it.
Result<void> Ext4FileSystem::drop_directory(Metadata& metadata, Inode& child) {
  child.raw.i_links_count = 0;
  child.touch_changed();
  metadata.directories.forget(child.number);
  RETURN_IF_ERROR(metadata.inodes.write(child));
  return metadata.inodes.orphan(child);
}

}  // namespace fuse4fs::ext4
