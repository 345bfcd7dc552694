// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/directory.h"

#include <utility>

namespace fuse4fs::ext4 {

bool Directory::is_indexed(const Inode& directory) const {
  return directory.has(EXT2_INDEX_FL) && ext2fs_has_feature_dir_index(volume_.super_pointer());
}

Directory::Form Directory::form_of(const Inode& directory) const {
  if (directory.has(EXT4_INLINE_DATA_FL)) return Form::kInline;
  if (is_indexed(directory)) return Form::kHashed;
  const bool one_block = directory.size() == volume_.block_size();
  return one_block && hasher_.version() ? Form::kHashed : Form::kLinear;
}

Result<void> Directory::write_touched(Inode& directory) {
  directory.touch();
  return volume_.write_inode(directory);
}

void Directory::forget(InodeNumber inode) {
  store_.forget(inode);
  linear_.forget(inode);
}

Result<Directory::Position> Directory::find_position(const Inode& directory, std::string_view name) {
  Position position;
  switch (form_of(directory)) {
    case Form::kHashed:
      return htree_.find(directory, name);
    case Form::kInline: {
      ASSIGN_OR_RETURN(position.inode, inline_.find(directory, name));
      break;
    }
    case Form::kLinear: {
      ASSIGN_OR_RETURN(position.inode, linear_.find(directory, name));
      break;
    }
  }
  return position;
}

Result<std::optional<InodeNumber>> Directory::find(const Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(const auto position, find_position(directory, name));
  return position.inode;
}

Result<void> Directory::insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode,
                               Position position) {
  if (form_of(directory) == Form::kInline) {
    ASSIGN_OR_RETURN(const bool inserted, inline_.insert(directory, name, inode, mode));
    if (inserted) return write_touched(directory);
    RETURN_IF_ERROR(inline_.move_out(directory));
  }
  if (form_of(directory) == Form::kHashed)
    RETURN_IF_ERROR(htree_.insert(directory, name, inode, mode, std::move(position)));
  else
    RETURN_IF_ERROR(linear_.insert(directory, name, inode, mode));
  return write_touched(directory);
}

Result<void> Directory::remove(Inode& directory, std::string_view name, Position position,
                               Survives survivor) {
  std::uint64_t block = 0;
  switch (form_of(directory)) {
    case Form::kInline:
      if (survivor) RETURN_IF_ERROR(volume_.keep_earlier(directory.number, EarlierInode::Keeps::kNames));
      RETURN_IF_ERROR(inline_.remove(directory, name));
      break;
    case Form::kHashed: {
      ASSIGN_OR_RETURN(block, htree_.remove(directory, name, std::move(position)));
      break;
    }
    case Form::kLinear: {
      ASSIGN_OR_RETURN(block, linear_.remove(directory, name));
      break;
    }
  }
  note_removed(directory, name, block, survivor);
  return write_touched(directory);
}

Result<void> Directory::replace(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode,
                                Survives survivor) {
  std::uint64_t block = 0;
  switch (form_of(directory)) {
    case Form::kInline:
      if (survivor) RETURN_IF_ERROR(volume_.keep_earlier(directory.number, EarlierInode::Keeps::kNames));
      RETURN_IF_ERROR(inline_.replace(directory, name, inode, mode));
      break;
    case Form::kHashed: {
      ASSIGN_OR_RETURN(block, htree_.replace(directory, name, inode, mode));
      break;
    }
    case Form::kLinear: {
      ASSIGN_OR_RETURN(block, linear_.replace(directory, name, inode, mode));
      break;
    }
  }
  note_removed(directory, name, block, survivor);
  return write_touched(directory);
}

void Directory::note_removed(const Inode& directory, std::string_view name, std::uint64_t block,
                             Survives survivor) {
  if (!survivor || block == 0) return;
  volume_.order().note_removed(block, {.directory = directory.number,
                                       .generation = directory.raw.i_generation,
                                       .name = std::string(name),
                                       .inode = survivor->inode,
                                       .mode = survivor->mode,
                                       .new_name = std::string(survivor->new_name)});
}

Result<void> Directory::list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink) {
  switch (form_of(directory)) {
    case Form::kInline:
      return inline_.list(directory, cookie, sink);
    case Form::kHashed:
      return htree_.list(directory, cookie, sink);
    case Form::kLinear:
      break;
  }
  return linear_.list(directory, cookie, sink);
}

Result<bool> Directory::is_empty(const Inode& directory) {
  bool empty = true;
  RETURN_IF_ERROR(
      list(directory, 0, [&](const DirectoryEntry& entry) { return empty = is_dots(entry.name); }));
  return empty;
}

Result<InodeNumber> Directory::parent_of(const Inode& directory) {
  if (directory.has(EXT4_INLINE_DATA_FL)) return directory.raw.i_block[0];
  if (is_indexed(directory)) return htree_.parent_of(directory);
  ASSIGN_OR_RETURN(const auto dotdot, store_.dotdot(directory));
  return dotdot.entry.inode;
}

Result<void> Directory::set_parent(Inode& directory, InodeNumber parent) {
  if (directory.has(EXT4_INLINE_DATA_FL)) {
    directory.raw.i_block[0] = parent;
    return volume_.write_inode(directory);
  }
  if (is_indexed(directory)) return htree_.set_parent(directory, parent);
  return store_.set_dotdot(directory, parent);
}

Result<void> Directory::make_empty(Inode& directory, InodeNumber parent) {
  forget(directory.number);
  ASSIGN_OR_RETURN(const bool made, inline_.make(directory, parent));
  if (made) return {};
  return make_first_block(directory, parent);
}

Result<void> Directory::make_first_block(Inode& directory, InodeNumber parent) {
  forget(directory.number);
  const auto& entries = store_.entries();
  return store_.make_first(directory, [&](std::span<std::byte> bytes) {
    entries.put(bytes, 0, entry_length(1), directory.number, ".", S_IFDIR);
    entries.put(bytes, entry_length(1), entries.end() - entry_length(1), parent, "..", S_IFDIR);
    entries.put_tail(bytes);
  });
}

}  // namespace fuse4fs::ext4
