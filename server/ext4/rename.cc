// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: rename and exchange.
//
// Up to four inodes are locked: two directories and what their names lead to, which is not known before the
// directories are locked. Where those cannot be had in order, all is let go, the four are locked in order,
// and the names are looked at again.
// Between two directories there is one rename at a time (rank kRename): so what was found out about who lies
// in whom stays true, and is found out before any of the four is locked.
#include "server/ext4/credits.h"
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint32_t kFixed = EXT2_IMMUTABLE_FL | EXT2_APPEND_FL;

}  // namespace

struct Ext4FileSystem::Rename {
  const RenameOptions& options;
  std::string_view old_name, new_name;
  Named from, to;

  [[nodiscard]] bool same_parent() const { return from.parent.number == to.parent.number; }
  // One inode in memory for one directory, or the second write would undo the first.
  [[nodiscard]] Inode& target() { return same_parent() ? from.parent : to.parent; }
};

Result<void> Ext4FileSystem::rename_unsynced(InodeNumber old_parent, std::string_view old_name,
                                             InodeNumber new_parent, std::string_view new_name,
                                             const RenameOptions& options) {
  if (old_parent == 0 || new_parent == 0) return fail(ESTALE);
  std::unique_lock between(rename_, std::defer_lock);
  if (old_parent != new_parent) between.lock();
  // What the names led to when it was last looked; and of that, the directories that do not hold the other
  // name's parent.
  InodeNumber old_child = 0, new_child = 0;
  InodeNumber not_above_new = 0, not_above_old = 0;
  while (true) {
    auto locks = metadata_.inodes.lock_none();
    locks.lock_all({old_parent, new_parent, old_child, new_child});
    ASSIGN_OR_RETURN(Named from, find_name(locks[old_parent], old_name));
    ASSIGN_OR_RETURN(Named to, find_name(locks[new_parent], new_name));
    if (!from.number) return fail(ENOENT);
    if (to.number && options.mode == RenameMode::kNoReplace) return fail(EEXIST);
    if (!to.number && options.mode == RenameMode::kExchange) return fail(ENOENT);
    if (options.whiteout && options.mode == RenameMode::kExchange) return fail(EINVAL);
    old_child = *from.number;
    new_child = to.number.value_or(0);
    // Each lock is one of four: those of names that led elsewhere until now are not kept.
    const auto has = [&](InodeNumber number) {
      return number == 0 || locks.has(number) || (!locks.is_full() && locks.try_lock(number));
    };
    if (!has(old_child) || !has(new_child)) continue;
    RETURN_IF_ERROR(read_child(locks, from));
    RETURN_IF_ERROR(read_child(locks, to));
    Rename names{options, old_name, new_name, std::move(from), std::move(to)};
    // Two names of one file: nothing is to be done, whoever asks.
    if (old_child == new_child) return {};
    RETURN_IF_ERROR(may_rename(names));
    const auto must_look = [&](const Named& name, InodeNumber known) {
      return old_parent != new_parent && name.child && name.child->is_directory() &&
             name.child->number != known;
    };
    const bool look_above_new = must_look(names.from, not_above_new);
    const bool look_above_old = must_look(names.to, not_above_old);
    if (!look_above_new && !look_above_old) {
      if (old_parent != new_parent && volume_->order().is_left_by_names(new_parent))
        return fail(kWriteBackFirst);
      if (names.to.child && volume_->order().is_left_directory(names.to.child->number))
        return fail(kWriteBackFirst);
      const auto handle = volume_->journal().start(credits::of_rename);
      return options.mode == RenameMode::kExchange ? exchange_names(names) : move_name(locks, names);
    }
    locks.clear();
    if (look_above_new) {
      ASSIGN_OR_RETURN(const Ancestry above, look_above(new_parent, old_child));
      if (above.has_it) return fail(EINVAL);
      if (above.has_moved) return fail(kWriteBackFirst);
      not_above_new = old_child;
    }
    if (look_above_old) {
      ASSIGN_OR_RETURN(const Ancestry above, look_above(old_parent, new_child));
      if (above.has_it) return fail(options.mode == RenameMode::kExchange ? EINVAL : ENOTEMPTY);
      if (above.has_moved && options.mode == RenameMode::kExchange) return fail(kWriteBackFirst);
      not_above_old = new_child;
    }
  }
}

Result<void> Ext4FileSystem::may_rename(const Rename& names) const {
  const auto& [options, old_name, new_name, from, to] = names;
  for (const Named* const name : {&from, &to}) {
    if (name->child && (name->child->number == name->parent.number || name->child->number == kRootInode))
      return fail(volume_->corrupted(name->parent.number, 0, "a directory inside itself"));
  }
  if (from.parent.has(kFixed) || from.child->has(kFixed) || to.parent.has(EXT2_IMMUTABLE_FL))
    return fail(EPERM);
  if (to.child && (to.parent.has(kFixed) || to.child->has(kFixed))) return fail(EPERM);
  // A directory that hands its project on takes only what is of it.
  const auto takes = [&](const Inode& directory, const Inode& child) {
    const auto& super = volume_->super();
    return !directory.has(EXT4_PROJINHERIT_FL) || directory.project(super) == child.project(super);
  };
  if (!takes(to.parent, *from.child)) return fail(EXDEV);
  if (options.mode == RenameMode::kExchange && !takes(from.parent, *to.child)) return fail(EXDEV);
  return {};
}

// One lock at a time: what holds a directory cannot go before it, so each is counted before the one inside of
// it is let go.
Result<Ext4FileSystem::Ancestry> Ext4FileSystem::look_above(InodeNumber directory, InodeNumber ancestor) {
  auto& inodes = metadata_.inodes;
  Ancestry above;
  std::optional<InodeTable::LookUp> here(inodes.count(directory));
  // A path cannot be longer than there are inodes: a volume with a circle ends here.
  for (std::uint32_t steps = volume_->super().s_inodes_count; here->number() != kRootInode; --steps) {
    const InodeNumber number = here->number();
    above.has_it = number == ancestor;
    if (above.has_it) return above;
    above.has_moved = above.has_moved || volume_->order().is_moved_directory(number);
    if (steps == 0) return fail(volume_->corrupted(number, 0, "directories in a circle"));
    std::optional<InodeTable::LookUp> next;
    {
      const auto held = here->lock_shared();
      ASSIGN_OR_RETURN(const Inode inode, inodes.read(held));
      if (!inode.is_directory()) return fail(volume_->corrupted(number, 0, "a file holds directories"));
      // Removed a moment ago.
      if (inode.raw.i_links_count == 0) return fail(ENOENT);
      ASSIGN_OR_RETURN(const InodeNumber parent, metadata_.directories.parent_of(inode));
      next.emplace(inodes.count(parent));
    }
    here.emplace(*std::move(next));
  }
  above.has_it = ancestor == kRootInode;
  return above;
}

Result<void> Ext4FileSystem::move_name(const ExclusiveSet& locks, Rename& names) {
  auto& [options, old_name, new_name, from, to] = names;
  auto& directories = metadata_.directories;
  auto& inodes = metadata_.inodes;
  // rename() has looked that they are there.
  Inode& moved = *from.child;  // NOLINT(bugprone-unchecked-optional-access)
  const bool same_parent = names.same_parent();
  const bool is_directory = moved.is_directory();
  if (to.child) {
    if (is_directory && !to.child->is_directory()) return fail(ENOTDIR);
    if (!is_directory && to.child->is_directory()) return fail(EISDIR);
    if (is_directory) {
      ASSIGN_OR_RETURN(const bool empty, directories.is_empty(*to.child));
      if (!empty) return fail(ENOTEMPTY);
    }
  } else if (is_directory && !same_parent) {
    RETURN_IF_ERROR(may_link_more(to.parent));
  }
  std::optional<InodeTable::Fresh> stand_in;
  if (options.whiteout) {
    ASSIGN_OR_RETURN(auto made, inodes.create(from.parent, *options.whiteout));
    stand_in.emplace(std::move(made));
  }
  // In the place of the other name: at no moment is there none.
  const auto placed = to.child ? directories.replace(names.target(), new_name, moved.number, moved.mode())
                               : directories.insert(names.target(), new_name, moved.number, moved.mode());
  if (!placed) {
    if (stand_in) discard(*stand_in);
    return placed;
  }
  auto& order = volume_->order();
  order.note_named(moved.number);
  if (!same_parent) order.note_left(from.parent.number, moved.number);
  if (is_directory && !same_parent) order.note_moved_directory(moved.number);
  if (is_directory) {
    // The one that is replaced makes up for the one that comes.
    if (to.child) count_subdirectory(from.parent, -1);
    if (!same_parent) {
      RETURN_IF_ERROR(directories.set_parent(moved, to.parent.number));
      if (!to.child) {
        count_subdirectory(to.parent, +1);
        count_subdirectory(from.parent, -1);
        RETURN_IF_ERROR(inodes.write(to.parent));
      }
    }
  }
  const Directory::Survivor survivor{
      .inode = moved.number, .mode = moved.mode(), .new_name = same_parent ? new_name : std::string_view()};
  if (stand_in) {
    // Nobody has looked it up: it leaves the memory with its lock.
    RETURN_IF_ERROR(
        directories.replace(from.parent, old_name, stand_in->inode.number, stand_in->inode.mode(), survivor));
  } else {
    RETURN_IF_ERROR(directories.remove(from.parent, old_name, {}, survivor));
  }
  moved.touch_changed();
  RETURN_IF_ERROR(inodes.write(moved));
  if (!to.child) return {};
  // Its name leads to the other one only when that is on the device: until then it lives there.
  if (is_directory || to.child->raw.i_links_count == 1)
    RETURN_IF_ERROR(volume_->keep_earlier(to.child->number, EarlierInode::Keeps::kLife));
  const Exclusive& victim = locks[to.child->number];
  return is_directory ? drop_directory(victim, *to.child) : drop_link(victim, *to.child);
}

Result<void> Ext4FileSystem::exchange_names(Rename& names) {
  auto& [options, old_name, new_name, from, to] = names;
  auto& directories = metadata_.directories;
  auto& inodes = metadata_.inodes;
  const bool same_parent = names.same_parent();
  Inode& first = *from.child;  // NOLINT(bugprone-unchecked-optional-access)
  Inode& second = *to.child;   // NOLINT(bugprone-unchecked-optional-access)
  if (!same_parent && first.is_directory() != second.is_directory())
    RETURN_IF_ERROR(may_link_more(first.is_directory() ? to.parent : from.parent));
  RETURN_IF_ERROR(directories.replace(names.target(), new_name, first.number, first.mode()));
  RETURN_IF_ERROR(directories.replace(from.parent, old_name, second.number, second.mode()));
  volume_->order().note_named(first.number);
  volume_->order().note_named(second.number);
  if (!same_parent) {
    for (const Inode* const moved : {&first, &second})
      if (moved->is_directory()) volume_->order().note_moved_directory(moved->number);
    if (first.is_directory()) {
      RETURN_IF_ERROR(directories.set_parent(first, to.parent.number));
      count_subdirectory(from.parent, -1);
      count_subdirectory(to.parent, +1);
    }
    if (second.is_directory()) {
      RETURN_IF_ERROR(directories.set_parent(second, from.parent.number));
      count_subdirectory(to.parent, -1);
      count_subdirectory(from.parent, +1);
    }
    RETURN_IF_ERROR(inodes.write(to.parent));
    RETURN_IF_ERROR(inodes.write(from.parent));
  }
  first.touch_changed();
  RETURN_IF_ERROR(inodes.write(first));
  second.touch_changed();
  return inodes.write(second);
}

}  // namespace fuse4fs::ext4
