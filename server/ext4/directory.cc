// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/directory.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace fuse4fs::ext4 {

Result<void> Directory::write_touched(Inode& directory) {
  directory.touch();
  return volume_.write_inode(directory);
}

Result<std::optional<InodeNumber>> Directory::find(Inode& directory, std::string_view name) {
  if (directory.has(EXT4_INLINE_DATA_FL)) return find_inline(directory, name);
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  Bytes block;
  ASSIGN_OR_RETURN(const auto found, locate(directory, *state, name, block));
  if (!found) return std::nullopt;
  return found->inode;
}

Result<void> Directory::insert(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode) {
  if (directory.has(EXT4_INLINE_DATA_FL)) RETURN_IF_ERROR(move_out(directory));
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  RETURN_IF_ERROR(load_names(directory, *state));
  if (directory.has(EXT2_INDEX_FL)) RETURN_IF_ERROR(drop_index(directory, *state));
  const auto needed = entry_length(name.size());
  // Most inserts find room in the last block.
  if (state->room.back() < needed || state->room.size() == 1) {
    const auto roomy =
        std::find_if(state->room.begin(), state->room.end(), [&](auto room) { return room >= needed; });
    if (roomy == state->room.end()) return append_block(directory, *state, name, inode, mode);
    ASSIGN_OR_RETURN(const bool done,
                     insert_into(directory, *state, static_cast<std::size_t>(roomy - state->room.begin()),
                                 name, inode, mode));
    if (done) return write_touched(directory);
  } else {
    ASSIGN_OR_RETURN(const bool done,
                     insert_into(directory, *state, state->room.size() - 1, name, inode, mode));
    if (done) return write_touched(directory);
  }
  return fail(volume_.corrupted(directory.number, 0, "a directory block changed behind our back"));
}

Result<bool> Directory::insert_into(Inode& directory, State& state, std::size_t index, std::string_view name,
                                    InodeNumber inode, mode_t mode) {
  Bytes block;
  const std::uint64_t physical = state.blocks[index];
  RETURN_IF_ERROR(read_block(directory, physical, block));
  const std::size_t needed = entry_length(name.size());
  std::optional<Entry> host;
  std::size_t host_used = 0;
  std::size_t room = 0;  // of what will be left
  RETURN_IF_ERROR(each_entry(directory, block, 0, end_of_entries(block), physical, [&](const Entry& entry) {
    const std::size_t used = entry.inode == 0 ? 0 : entry_length(entry.name.size());
    std::size_t left = entry.length - used;
    if (!host && left >= needed) {
      host = entry;
      host_used = used;
      left -= needed;
    }
    room = std::max(room, left);
    return true;
  }));
  if (!host) return false;
  if (host_used != 0) set_length(block, host->offset, host_used);
  const std::size_t offset = host->offset + host_used;
  put_entry(block, offset, host->length - host_used, inode, name, mode);
  RETURN_IF_ERROR(write_block(directory, physical, block));
  state.room[index] = static_cast<std::uint32_t>(room);
  remember_entry(state, type_of(mode), name,
                 {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(offset)});
  return true;
}

Result<void> Directory::append_block(Inode& directory, State& state, std::string_view name, InodeNumber inode,
                                     mode_t mode) {
  const std::uint64_t logical = state.blocks.size();
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 31;
  if (directory.size() + volume_.block_size() >= kLongest &&
      !ext2fs_has_feature_largedir(volume_.super_pointer()))
    return fail(ENOSPC);
  // With clusters, the block may come with its neighbour.
  std::uint64_t physical = 0;
  std::optional<BlockRun> fresh;
  ASSIGN_OR_RETURN(physical, extents_.implied_block(directory, logical));
  if (physical == 0) {
    ASSIGN_OR_RETURN(fresh, blocks_.take(extents_.goal_for(directory, logical), 1));
    physical = fresh->first + (logical & (volume_.cluster_blocks() - 1));
  }
  Bytes block(volume_.block_size());
  const std::size_t end = put_tail(block);
  put_entry(block, 0, end, inode, name, mode);
  auto done = write_block(directory, physical, block);
  if (done) done = extents_.insert(directory, logical, physical, 1);
  if (!done) {
    if (fresh) (void)blocks_.give_back(*fresh, directory.number);
    states_.erase(directory.number);
    return done;
  }
  if (fresh) RETURN_IF_ERROR(extents_.add_blocks(directory, 1));
  directory.set_size((logical + 1) << volume_.block_bits());
  state.blocks.push_back(physical);
  state.room.push_back(static_cast<std::uint32_t>(end - entry_length(name.size())));
  remember_entry(state, type_of(mode), name, {static_cast<std::uint32_t>(logical), 0});
  return write_touched(directory);
}

// Leaves stay as they are: they were linear blocks all along. With checksums, the blocks of the tree itself
// become linear blocks too, which have a tail; without, they read as unused entries already.
Result<void> Directory::drop_index(Inode& directory, State& state) {
  if (volume_.has_checksums()) {
    Bytes block;
    for (std::size_t i = 0; i < state.blocks.size(); ++i) {
      RETURN_IF_ERROR(read_block(directory, state.blocks[i], block));
      if (end_of_entries(block) != block.size()) continue;
      const std::size_t kept = i == 0 ? entry_length(1) + entry_length(2) : 0;
      const std::size_t last = i == 0 ? entry_length(1) : 0;
      std::fill(block.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(kept, 8)), block.end(),
                std::byte{0});
      const std::size_t end = put_tail(block);
      set_length(block, last, end - last);
      RETURN_IF_ERROR(write_block(directory, state.blocks[i], block));
      state.room[i] = static_cast<std::uint32_t>(end - kept);
    }
  }
  directory.raw.i_flags &= ~static_cast<std::uint32_t>(EXT2_INDEX_FL);
  return write_touched(directory);
}

Result<void> Directory::remove(Inode& directory, std::string_view name) {
  if (directory.has(EXT4_INLINE_DATA_FL)) return change_inline(directory, name, 0, 0);
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  Bytes block;
  ASSIGN_OR_RETURN(const auto found, locate(directory, *state, name, block));
  if (!found) return fail(ENOENT);
  const std::uint64_t physical = state->blocks[found->place.block];
  std::optional<Entry> before;
  std::optional<Entry> gone;
  RETURN_IF_ERROR(each_entry(directory, block, 0, end_of_entries(block), physical, [&](const Entry& entry) {
    if (entry.offset == found->place.offset) {
      gone = entry;
      return false;
    }
    before = entry;
    return true;
  }));
  if (!gone) return fail(volume_.corrupted(directory.number, physical, "a directory entry inside another"));
  std::size_t room = gone->length;
  if (before) {
    const std::size_t used = before->inode == 0 ? 0 : entry_length(before->name.size());
    room += before->length - used;
    set_length(block, before->offset, before->length + gone->length);
  }
  // The name is not left behind for others to read.
  std::memset(block.data() + gone->offset + 8, 0, gone->length - 8);
  std::memset(block.data() + gone->offset, 0, 4);
  if (before) std::memset(block.data() + gone->offset, 0, 8);
  RETURN_IF_ERROR(write_block(directory, physical, block));
  if (state->named) {
    if (gone->type == EXT2_FT_DIR) --state->subdirectories;
    auto& best = state->room[found->place.block];
    best = std::max(best, static_cast<std::uint32_t>(room));
    const auto [begin, end] = state->names.equal_range(std::hash<std::string_view>()(name));
    for (auto candidate = begin; candidate != end; ++candidate) {
      if (candidate->second.block != found->place.block || candidate->second.offset != found->place.offset)
        continue;
      state->names.erase(candidate);
      break;
    }
  }
  return write_touched(directory);
}

Result<void> Directory::replace(Inode& directory, std::string_view name, InodeNumber inode, mode_t mode) {
  if (directory.has(EXT4_INLINE_DATA_FL)) return change_inline(directory, name, inode, mode);
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  Bytes block;
  ASSIGN_OR_RETURN(const auto found, locate(directory, *state, name, block));
  if (!found) return fail(ENOENT);
  const std::uint64_t physical = state->blocks[found->place.block];
  ASSIGN_OR_RETURN(const auto entry, entry_at(directory, block, found->place.offset, physical));
  put_entry(block, entry.offset, entry.length, inode, name, mode);
  RETURN_IF_ERROR(write_block(directory, physical, block));
  if (state->named) {
    if (entry.type == EXT2_FT_DIR) --state->subdirectories;
    if (type_of(mode) == EXT2_FT_DIR) ++state->subdirectories;
  }
  return write_touched(directory);
}

Result<bool> Directory::is_empty(Inode& directory) {
  bool empty = true;
  const auto look = [&](const DirectoryEntry& entry) {
    empty = entry.name == "." || entry.name == "..";
    return empty;
  };
  RETURN_IF_ERROR(list(directory, 0, look));
  return empty;
}

Result<std::optional<std::size_t>> Directory::subdirectories(Inode& directory) {
  if (directory.has(EXT4_INLINE_DATA_FL) || !ext2fs_has_feature_filetype(volume_.super_pointer()))
    return std::nullopt;
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  RETURN_IF_ERROR(load_names(directory, *state));
  return state->subdirectories;
}

Result<InodeNumber> Directory::parent_of(Inode& directory) {
  if (directory.has(EXT4_INLINE_DATA_FL)) return directory.raw.i_block[0];
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  Bytes block;
  RETURN_IF_ERROR(read_block(directory, state->blocks[0], block));
  ASSIGN_OR_RETURN(const auto dot, entry_at(directory, block, 0, state->blocks[0]));
  ASSIGN_OR_RETURN(const auto dotdot, entry_at(directory, block, dot.length, state->blocks[0]));
  if (dotdot.inode == 0 || dotdot.name != "..")
    return fail(volume_.corrupted(directory.number, state->blocks[0], "a directory without \"..\""));
  return dotdot.inode;
}

Result<void> Directory::set_parent(Inode& directory, InodeNumber parent) {
  if (directory.has(EXT4_INLINE_DATA_FL)) {
    directory.raw.i_block[0] = parent;
    return volume_.write_inode(directory);
  }
  RETURN_IF_ERROR(parent_of(directory));
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  Bytes block;
  RETURN_IF_ERROR(read_block(directory, state->blocks[0], block));
  ASSIGN_OR_RETURN(const auto dot, entry_at(directory, block, 0, state->blocks[0]));
  std::memcpy(block.data() + dot.length, &parent, sizeof parent);
  return write_block(directory, state->blocks[0], block);
}

Result<void> Directory::make_first_block(Inode& directory, InodeNumber parent) {
  states_.erase(directory.number);
  ASSIGN_OR_RETURN(const BlockRun run, blocks_.take(extents_.goal_for(directory, 0), 1));
  Bytes block(volume_.block_size());
  const std::size_t end = put_tail(block);
  put_entry(block, 0, entry_length(1), directory.number, ".", S_IFDIR);
  put_entry(block, entry_length(1), end - entry_length(1), parent, "..", S_IFDIR);
  auto done = write_block(directory, run.first, block);
  if (done) done = extents_.insert(directory, 0, run.first, 1);
  if (!done) {
    (void)blocks_.give_back(run, directory.number);
    return done;
  }
  directory.set_size(volume_.block_size());
  return extents_.add_blocks(directory, 1);
}

Result<void> Directory::list(Inode& directory, std::uint64_t cookie, const DirectorySink& sink) {
  if (directory.has(EXT4_INLINE_DATA_FL)) return list_inline(directory, cookie, sink);
  ASSIGN_OR_RETURN(State * state, state_of(directory));
  Bytes block;
  bool more = true;
  for (std::size_t i = cookie >> volume_.block_bits(); more && i < state->blocks.size(); ++i) {
    const std::uint64_t base = static_cast<std::uint64_t>(i) << volume_.block_bits();
    RETURN_IF_ERROR(read_block(directory, state->blocks[i], block));
    // From the block's start: entries may have been joined since the cookie was given.
    RETURN_IF_ERROR(
        each_entry(directory, block, 0, end_of_entries(block), state->blocks[i], [&](const Entry& entry) {
          if (entry.inode == 0 || base + entry.offset < cookie) return true;
          // One byte behind the entry's beginning: what is inserted into its slack later comes behind this
          // cookie.
          more = sink({entry.name, entry.inode, entry_type(entry.type), base + entry.offset + 1});
          return more;
        }));
  }
  return {};
}

}  // namespace fuse4fs::ext4
