// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/linear_directory.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kMostStates = 1024;

// Directories of so few blocks are searched as they are.
constexpr std::uint32_t kSearchable = 2;

}  // namespace

std::size_t LinearDirectory::names_in_memory() const {
  std::size_t names = 0;
  for (const auto& [inode, state] : states_) names += state.names.size();
  return names;
}

LinearDirectory::State& LinearDirectory::state_of(InodeNumber number) {
  if (const auto known = states_.find(number); known != states_.end()) {
    known->second.last_used = ++clock_;
    return known->second;
  }
  std::size_t names = names_in_memory();
  while (states_.size() >= kMostStates || names > most_names_) {
    const auto oldest = std::min_element(states_.begin(), states_.end(), [](const auto& a, const auto& b) {
      return a.second.last_used < b.second.last_used;
    });
    if (oldest == states_.end()) break;
    names -= oldest->second.names.size();
    states_.erase(oldest);
  }
  State& fresh = states_[number];
  fresh.last_used = ++clock_;
  return fresh;
}

std::uint32_t LinearDirectory::room_in(std::span<const std::byte> block) const {
  std::size_t room = 0;
  store_.entries().each(block, 0, store_.entries().end(), [&](const Entry& entry) {
    room = std::max(room, entry.length - entry.used());
    return true;
  });
  return static_cast<std::uint32_t>(room);
}

Result<LinearDirectory::State*> LinearDirectory::loaded(const Inode& directory) {
  State& state = state_of(directory.number);
  if (state.loaded) return &state;
  state.names.clear();
  state.indexed = true;
  ASSIGN_OR_RETURN(const std::uint32_t count, store_.count(directory));
  state.room.assign(count, 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const DirectoryBlock block, store_.read(directory, i, DirectoryForm::kEntries));
    state.room[i] = room_in(block.bytes());
    store_.entries().each(block.bytes(), 0, store_.entries().end(), [&](const Entry& entry) {
      if (entry.inode != 0) remember_name(state, entry.name, {i, static_cast<std::uint32_t>(entry.offset)});
      return true;
    });
  }
  state.loaded = true;
  return &state;
}

void LinearDirectory::remember_name(State& state, std::string_view name, Place place) {
  if (!state.indexed) return;
  if (state.names.size() < most_names_) {
    state.names.emplace(std::hash<std::string_view>()(name), place);
    return;
  }
  // Too many to keep: this directory is scanned from now on.
  state.indexed = false;
  std::unordered_multimap<std::size_t, Place>().swap(state.names);
}

void LinearDirectory::forget_name(State& state, std::string_view name, Place place) {
  const auto [begin, end] = state.names.equal_range(std::hash<std::string_view>()(name));
  const auto known = std::find_if(begin, end, [&](const auto& candidate) {
    return candidate.second.block == place.block && candidate.second.offset == place.offset;
  });
  if (known != end) state.names.erase(known);
}

Result<std::optional<LinearDirectory::Found>> LinearDirectory::locate(const Inode& directory,
                                                                      std::string_view name) {
  const auto look = [&](std::uint32_t index) -> Result<std::optional<Found>> {
    ASSIGN_OR_RETURN(DirectoryBlock block, store_.read(directory, index, DirectoryForm::kEntries));
    auto place = store_.entries().find(block.bytes(), 0, store_.entries().end(), name);
    if (!place) return std::nullopt;
    return Found{std::move(block), *place};
  };
  ASSIGN_OR_RETURN(const std::uint32_t count, store_.count(directory));
  if (count > kSearchable) {
    ASSIGN_OR_RETURN(const State* const state, loaded(directory));
    if (state->indexed) {
      const auto [begin, end] = state->names.equal_range(std::hash<std::string_view>()(name));
      for (auto candidate = begin; candidate != end; ++candidate) {
        ASSIGN_OR_RETURN(auto found, look(candidate->second.block));
        if (found) return found;
      }
      return std::nullopt;
    }
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(auto found, look(i));
    if (found) return found;
  }
  return std::nullopt;
}

Result<std::optional<InodeNumber>> LinearDirectory::find(const Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(const auto found, locate(directory, name));
  if (!found) return std::nullopt;
  return found->place.entry.inode;
}

Result<void> LinearDirectory::insert(Inode& directory, std::string_view name, InodeNumber inode,
                                     mode_t mode) {
  // Without its feature the kernel takes an index that is not kept for none, and drops the flag.
  directory.raw.i_flags &= ~static_cast<std::uint32_t>(EXT2_INDEX_FL);
  ASSIGN_OR_RETURN(State * state, loaded(directory));
  const auto needed = entry_length(name.size());
  auto& room = state->room;
  // Most inserts find room in the last block.
  auto roomy = std::prev(room.end());
  if (*roomy < needed) roomy = std::find_if(room.begin(), room.end(), [&](auto of) { return of >= needed; });
  if (roomy != room.end())
    return insert_into(directory, *state, static_cast<std::uint32_t>(roomy - room.begin()), name, inode,
                       mode);
  const auto& entries = store_.entries();
  const auto block = store_.append(directory, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
    entries.put(bytes, 0, entries.end(), inode, name, mode);
    entries.put_tail(bytes);
  });
  if (!block) return fail(block.error());
  room.push_back(room_in(block->bytes()));
  remember_name(*state, name, {block->index(), 0});
  return {};
}

Result<void> LinearDirectory::insert_into(const Inode& directory, State& state, std::uint32_t index,
                                          std::string_view name, InodeNumber inode, mode_t mode) {
  ASSIGN_OR_RETURN(DirectoryBlock block, store_.read(directory, index, DirectoryForm::kEntries));
  std::optional<std::size_t> place;
  RETURN_IF_ERROR(store_.change(directory, block, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
    place = store_.entries().insert(bytes, 0, store_.entries().end(), name, inode, mode);
  }));
  if (!place)
    return fail(store_.corrupted(directory, block.physical(), "a directory block changed behind our back"));
  state.room[index] = room_in(block.bytes());
  remember_name(state, name, {index, static_cast<std::uint32_t>(*place)});
  return {};
}

Result<void> LinearDirectory::remove(const Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(auto found, locate(directory, name));
  if (!found) return fail(ENOENT);
  RETURN_IF_ERROR(
      store_.change(directory, found->block, DirectoryForm::kEntries,
                    [&](std::span<std::byte> bytes) { store_.entries().remove(bytes, found->place); }));
  const std::uint32_t index = found->block.index();
  if (const auto known = states_.find(directory.number); known != states_.end() && known->second.loaded) {
    known->second.room[index] = room_in(found->block.bytes());
    forget_name(known->second, name, {index, static_cast<std::uint32_t>(found->place.entry.offset)});
  }
  return {};
}

Result<void> LinearDirectory::replace(const Inode& directory, std::string_view name, InodeNumber inode,
                                      mode_t mode) {
  ASSIGN_OR_RETURN(auto found, locate(directory, name));
  if (!found) return fail(ENOENT);
  const auto& entry = found->place.entry;
  return store_.change(directory, found->block, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
    store_.entries().put(bytes, entry.offset, entry.length, inode, name, mode);
  });
}

Result<void> LinearDirectory::list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink) {
  const std::uint64_t block_size = store_.index_format().block_size;
  ASSIGN_OR_RETURN(const std::uint32_t count, store_.count(directory));
  bool more = true;
  for (std::uint64_t i = cookie / block_size; more && i < count; ++i) {
    const std::uint64_t base = i * block_size;
    ASSIGN_OR_RETURN(const DirectoryBlock block,
                     store_.read(directory, static_cast<std::uint32_t>(i), DirectoryForm::kEntries));
    // From the block's start: entries may have been joined since the cookie was given.
    more = store_.entries().each(block.bytes(), 0, store_.entries().end(), [&](const Entry& entry) {
      if (entry.inode == 0 || base + entry.offset < cookie) return true;
      // One byte behind the entry's beginning: what is inserted into its slack later comes behind this
      // cookie.
      return sink({entry.name, entry.inode, entry_type(entry.type), base + entry.offset + 1});
    });
  }
  return {};
}

}  // namespace fuse4fs::ext4
