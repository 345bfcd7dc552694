// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: what is done with names, but for rename (rename.cc).
#include <algorithm>
#include <cstring>

#include "server/ext4/credits.h"
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

Result<void> judge_name(std::string_view name) {
  if (name.empty()) return fail(ENOENT);
  if (name.size() > kMaxNameLength) return fail(ENAMETOOLONG);
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos)
    return fail(EINVAL);
  return {};
}

}  // namespace

Result<Inode> Ext4FileSystem::directory(const Held& held) {
  RETURN_IF_ERROR(volume_->check_alive());
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
  if (!inode.is_directory()) return fail(ENOTDIR);
  return inode;
}

Result<Ext4FileSystem::Named> Ext4FileSystem::find_name(const Exclusive& parent, std::string_view name) {
  RETURN_IF_ERROR(volume_->check_writable());
  RETURN_IF_ERROR(judge_name(name));
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read_for_change(parent));
  if (!inode.is_directory()) return fail(ENOTDIR);
  if (inode.raw.i_links_count == 0) return fail(ENOENT);
  if (is_dots(name)) return fail(EINVAL);
  ASSIGN_OR_RETURN(auto position, metadata_.directories.find_position(inode, name));
  const auto number = position.inode;
  return Named{inode, number, std::nullopt, std::move(position)};
}

Result<void> Ext4FileSystem::read_child(const ExclusiveSet& locks, Named& name) {
  if (!name.number) return {};
  const Exclusive& held = locks[*name.number];
  ASSIGN_OR_RETURN(name.child, metadata_.inodes.read(held));
  // With the directory locked nobody waits for the walk through a large file's map: it goes, if it goes, when
  // it is forgotten.
  if (name.child->is_directory() || !held.has_lookups()) {
    ASSIGN_OR_RETURN(name.child, metadata_.inodes.read_for_change(held));
  }
  if (name.child->raw.i_links_count == 0)
    return fail(volume_->corrupted(*name.number, 0, "a name leads to a deleted inode"));
  return {};
}

Result<Ext4FileSystem::Named> Ext4FileSystem::lock_name(ExclusiveSet& locks, InodeNumber parent,
                                                        std::string_view name) {
  if (parent == 0) return fail(ESTALE);
  InodeNumber expected = 0;
  while (true) {
    locks.clear();
    locks.lock_all({parent, expected});
    ASSIGN_OR_RETURN(Named found, find_name(locks[parent], name));
    const InodeNumber number = found.number.value_or(0);
    if (number != 0 && !locks.has(number)) {
      if (number > parent && expected == 0) {
        locks.lock(number);
      } else if (!locks.try_lock(number)) {
        // Not in this order. Until both are held the name may come to lead elsewhere.
        expected = number;
        continue;
      }
    }
    RETURN_IF_ERROR(read_child(locks, found));
    return found;
  }
}

Result<InodeNumber> Ext4FileSystem::number_of(const Inode& directory, std::string_view name) {
  if (name == "..") return metadata_.directories.parent_of(directory);
  ASSIGN_OR_RETURN(const auto found, metadata_.directories.find(directory, name));
  if (!found) return fail(ENOENT);
  return *found;
}

Result<Attributes> Ext4FileSystem::lookup(InodeNumber parent, std::string_view name) {
  RETURN_IF_ERROR(judge_name(name));
  if (name == ".") return look_up_handle(parent);
  std::optional<InodeTable::LookUp> child;
  {
    const auto held = metadata_.inodes.lock_shared(parent);
    ASSIGN_OR_RETURN(const Inode inode, directory(held));
    if (inode.raw.i_links_count == 0) return fail(ENOENT);
    ASSIGN_OR_RETURN(const InodeNumber number, number_of(inode, name));
    // From here on it stays, even if this name goes.
    child.emplace(metadata_.inodes.count(number));
  }
  {
    const auto held = child->lock_shared();
    const auto inode = metadata_.inodes.read(held);
    if (!inode && inode.error() != Errno(ESTALE)) return fail(inode.error());
    if (inode && inode->raw.i_links_count != 0) {
      child->keep();
      return shown(*inode);
    }
  }
  return look_up_again(parent, name, child->number());
}

// A moment ago the name led to `child`, which has no links. Either both went meanwhile, or the volume is
// wrong.
Result<Attributes> Ext4FileSystem::look_up_again(InodeNumber parent, std::string_view name,
                                                 InodeNumber child) {
  const auto held = metadata_.inodes.lock_shared(parent);
  ASSIGN_OR_RETURN(const Inode inode, directory(held));
  if (inode.raw.i_links_count == 0) return fail(ENOENT);
  ASSIGN_OR_RETURN(const InodeNumber number, number_of(inode, name));
  // Its last look-up is ours, so its number has no new owner; what a name leads to has links, for who takes
  // the last one holds the directory.
  if (number == child) return fail(volume_->corrupted(child, 0, "a name leads to a deleted inode"));
  return fail(ENOENT);
}

Result<Attributes> Ext4FileSystem::look_up_inode(InodeNumber number) {
  RETURN_IF_ERROR(volume_->check_alive());
  if (number == 0 || number > volume_->super().s_inodes_count) return fail(ENOENT);
  auto known = metadata_.inodes.count(number);
  const auto held = known.lock_shared();
  // Since the name was listed the inode may have gone, and its number to somebody else: that is no
  // corruption.
  const auto inode = metadata_.inodes.read_from_handle(held);
  if (!inode) return fail(inode.error() == Errno(ESTALE) ? Errno(ENOENT) : inode.error());
  if (inode->raw.i_links_count == 0) return fail(ENOENT);
  known.keep();
  return shown(*inode);
}

Result<Attributes> Ext4FileSystem::look_up_handle(std::uint64_t number) {
  RETURN_IF_ERROR(volume_->check_alive());
  if (!metadata_.inodes.may_be_a_file(number)) return fail(ESTALE);
  auto known = metadata_.inodes.count(static_cast<InodeNumber>(number));
  const auto held = known.lock_shared();
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_from_handle(held));
  known.keep();
  return shown(inode);
}

// With an index, a directory may have more subdirectories than can be counted.
Result<void> Ext4FileSystem::may_link_more(const Inode& directory) const {
  if (directory.raw.i_links_count < kMostLinks) return {};
  if (ext2fs_has_feature_dir_nlink(volume_->super_pointer()) && metadata_.directories.is_indexed(directory))
    return {};
  return fail(EMLINK);
}

// As ext4: 1 stands for "more than can be counted", and stays as long as there is an index.
void Ext4FileSystem::count_subdirectory(Inode& directory, int change) const {
  auto& links = directory.raw.i_links_count;
  if (change < 0) {
    if (links > 2) --links;
    return;
  }
  ++links;
  if (metadata_.directories.is_indexed(directory) && (links > kMostLinks || links == 2)) links = 1;
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
  const auto held = metadata_.inodes.lock(parent);
  ASSIGN_OR_RETURN(Named place, find_name(held, name));
  if (place.number) return fail(EEXIST);
  if (place.parent.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  const bool is_directory = S_ISDIR(what.mode);
  if (is_directory) RETURN_IF_ERROR(may_link_more(place.parent));
  const auto handle = volume_->journal().start(credits::of_new_name);
  ASSIGN_OR_RETURN(auto fresh, metadata_.inodes.create(place.parent, what));
  Inode& inode = fresh.inode;
  mapped_.note_made(inode.number);
  place.parent.caller = inode.caller = Caller{what.uid, what.gid};
  Result<void> done;
  if (target) done = set_target(inode, *target);
  if (is_directory) done = metadata_.directories.make_empty(inode, parent);
  // As create() left it, it is written already.
  if (done && (target || is_directory)) done = metadata_.inodes.write(inode);
  if (done)
    done = metadata_.directories.insert(place.parent, name, inode.number, inode.mode(),
                                        std::move(place.position));
  if (!done) {
    discard(fresh);
    return fail(done.error());
  }
  if (is_directory) {
    count_subdirectory(place.parent, +1);
    RETURN_IF_ERROR(metadata_.inodes.write(place.parent));
  }
  fresh.lock.count();
  return shown(inode);
}

// As if it had never been.
void Ext4FileSystem::discard(InodeTable::Fresh& fresh) {
  metadata_.inodes.discard(fresh);
  metadata_.directories.forget(fresh.inode.number);
}

Result<Attributes> Ext4FileSystem::make_temporary_unsynced(InodeNumber parent_number, const NewInode& what) {
  if (!S_ISREG(what.mode)) return fail(EINVAL);
  // Nothing of the directory is changed.
  const auto held = metadata_.inodes.lock_shared(parent_number);
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode parent, metadata_.inodes.read(held));
  if (!parent.is_directory()) return fail(ENOTDIR);
  // As ext4: of a directory that is removed it is not ENOENT.
  if (parent.raw.i_links_count == 0 || parent.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
  const auto handle = volume_->journal().start(credits::of_new_name);
  ASSIGN_OR_RETURN(auto fresh, metadata_.inodes.create(parent, what));
  mapped_.note_made(fresh.inode.number);
  Inode& inode = fresh.inode;
  inode.raw.i_links_count = 0;
  metadata_.inodes.wait_for_name(fresh.lock);
  if (const auto done = metadata_.inodes.write(inode); !done) {
    discard(fresh);
    return fail(done.error());
  }
  fresh.lock.count();
  return shown(inode);
}

Result<void> Ext4FileSystem::set_target(Inode& inode, std::string_view target) {
  inode.set_size(target.size());
  if (target.size() < sizeof inode.raw.i_block) {
    std::memcpy(inode.raw.i_block, target.data(), target.size());
    return {};
  }
  metadata_.extents.initialise(inode);
  ASSIGN_OR_RETURN(const BlockRun run, metadata_.blocks.take(inode, metadata_.extents.goal_for(inode, 0)));
  std::vector<std::byte> block(volume_->block_size());
  std::memcpy(block.data(), target.data(), target.size());
  auto done = volume_->journal().write(run.first, 0, block, inode.number);
  if (done) done = metadata_.extents.insert(inode, 0, run.first, 1);
  if (!done) {
    (void)metadata_.blocks.give_back(run, inode.number);
    return done;
  }
  return metadata_.extents.add_blocks(inode, 1);
}

Result<Attributes> Ext4FileSystem::link_unsynced(InodeNumber number, InodeNumber new_parent,
                                                 std::string_view new_name) {
  if (number == 0 || new_parent == 0) return fail(ESTALE);
  auto locks = metadata_.inodes.lock_none();
  locks.lock_all({number, new_parent});
  const Exclusive& held = locks[number];
  ASSIGN_OR_RETURN(Named place, find_name(locks[new_parent], new_name));
  ASSIGN_OR_RETURN(Inode inode, metadata_.inodes.read(held));
  if (inode.is_directory()) return fail(EPERM);
  if (place.number) return fail(EEXIST);
  if (inode.raw.i_links_count == 0 && !held.waits_for_name()) return fail(ENOENT);
  if (inode.has(EXT2_IMMUTABLE_FL | EXT2_APPEND_FL) || place.parent.has(EXT2_IMMUTABLE_FL))
    return fail(EPERM);
  if (inode.raw.i_links_count >= kMostLinks) return fail(EMLINK);
  if (place.parent.has(EXT4_PROJINHERIT_FL) &&
      place.parent.project(volume_->super()) != inode.project(volume_->super()))
    return fail(EXDEV);
  if (volume_->order().is_left_by_names(new_parent)) return fail(kWriteBackFirst);
  const auto handle = volume_->journal().start(credits::of_link);
  volume_->order().note_named(number);
  // The count first: after a crash one link too many costs space, one too few costs data.
  ++inode.raw.i_links_count;
  inode.touch_changed();
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  if (const auto done = metadata_.directories.insert(place.parent, new_name, number, inode.mode(),
                                                     std::move(place.position));
      !done) {
    --inode.raw.i_links_count;
    (void)metadata_.inodes.write(inode);
    return fail(done.error());
  }
  metadata_.inodes.settle(held);
  held.count();
  return shown(inode);
}

Result<void> Ext4FileSystem::unlink_unsynced(InodeNumber parent, std::string_view name) {
  auto locks = metadata_.inodes.lock_none();
  ASSIGN_OR_RETURN(Named place, lock_name(locks, parent, name));
  if (!place.child) return fail(ENOENT);
  if (place.child->is_directory()) return fail(EISDIR);
  constexpr std::uint32_t kFixed = EXT2_IMMUTABLE_FL | EXT2_APPEND_FL;
  if (place.parent.has(kFixed) || place.child->has(kFixed)) return fail(EPERM);
  Directory::Survives survivor;
  if (place.child->raw.i_links_count > 1)
    survivor = Directory::Survivor{.inode = place.child->number, .mode = place.child->mode()};
  const auto handle = volume_->journal().start(credits::of_unlink);
  if (survivor) volume_->order().note_left(parent, place.child->number);
  RETURN_IF_ERROR(metadata_.directories.remove(place.parent, name, std::move(place.position), survivor));
  return drop_link(locks[place.child->number], *place.child);
}

Result<void> Ext4FileSystem::drop_link(const Exclusive& held, Inode& inode) {
  --inode.raw.i_links_count;
  inode.touch_changed();
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  if (inode.raw.i_links_count != 0) return {};
  return metadata_.inodes.orphan(held, inode);
}

Result<void> Ext4FileSystem::remove_directory_unsynced(InodeNumber parent, std::string_view name) {
  if (name == ".") return fail(EINVAL);
  if (name == "..") return fail(ENOTEMPTY);
  auto locks = metadata_.inodes.lock_none();
  ASSIGN_OR_RETURN(Named place, lock_name(locks, parent, name));
  if (!place.child) return fail(ENOENT);
  if (!place.child->is_directory()) return fail(ENOTDIR);
  constexpr std::uint32_t kFixed = EXT2_IMMUTABLE_FL | EXT2_APPEND_FL;
  if (place.parent.has(kFixed) || place.child->has(kFixed)) return fail(EPERM);
  if (place.child->number == kRootInode || place.child->number == parent)
    return fail(volume_->corrupted(parent, 0, "a directory inside itself"));
  ASSIGN_OR_RETURN(const bool empty, metadata_.directories.is_empty(*place.child));
  if (!empty) return fail(ENOTEMPTY);
  if (volume_->order().is_left_directory(place.child->number)) return fail(kWriteBackFirst);
  const auto handle = volume_->journal().start(credits::of_unlink);
  count_subdirectory(place.parent, -1);
  RETURN_IF_ERROR(metadata_.directories.remove(place.parent, name, std::move(place.position)));
  // Its blocks stay until it is forgotten. As ext4, which does not do this to one that a rename replaces.
  place.child->set_size(0);
  return drop_directory(locks[place.child->number], *place.child);
}

// The name is gone, and the parent no longer counts it.
Result<void> Ext4FileSystem::drop_directory(const Exclusive& held, Inode& child) {
  child.raw.i_links_count = 0;
  child.touch_changed();
  metadata_.directories.forget(child.number);
  RETURN_IF_ERROR(metadata_.inodes.write(child));
  return metadata_.inodes.orphan(held, child);
}

}  // namespace fuse4fs::ext4
