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

std::size_t LinearDirectory::names_in_memory() const { return names_; }

std::shared_ptr<LinearDirectory::State> LinearDirectory::known(InodeNumber number) {
  auto states = states_.lock();
  const auto found = states->find(number);
  if (found == states->end()) return nullptr;
  found->second->last_used = ++clock_;
  return found->second;
}

// For one more.
std::vector<std::shared_ptr<LinearDirectory::State>> LinearDirectory::make_room(States& states) const {
  std::vector<std::shared_ptr<State>> gone;
  std::size_t names = 0;
  for (const auto& [inode, state] : states) names += state->size();
  while (states.size() >= kMostStates || names > most_names_) {
    const auto oldest = std::min_element(states.begin(), states.end(), [](const auto& a, const auto& b) {
      return a.second->last_used < b.second->last_used;
    });
    if (oldest == states.end()) break;
    names -= oldest->second->size();
    gone.push_back(std::move(oldest->second));
    states.erase(oldest);
  }
  return gone;
}

std::uint32_t LinearDirectory::room_in(std::span<const std::byte> block) const {
  std::size_t room = 0;
  store_.entries().each(block, 0, store_.entries().end(), [&](const Entry& entry) {
    room = std::max(room, entry.length - entry.used());
    return true;
  });
  return static_cast<std::uint32_t>(room);
}

Result<std::shared_ptr<LinearDirectory::State>> LinearDirectory::loaded(const Inode& directory) {
  if (auto state = known(directory.number)) return state;
  {
    const auto gone = make_room(*states_.lock());
  }
  const auto state = std::make_shared<State>(names_);
  ASSIGN_OR_RETURN(const std::uint32_t count, store_.count(directory));
  state->room.assign(count, 0);
  for (std::uint32_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const DirectoryBlock block, store_.read(directory, i, DirectoryForm::kEntries));
    state->room[i] = room_in(block.bytes());
    store_.entries().each(block.bytes(), 0, store_.entries().end(), [&](const Entry& entry) {
      if (entry.inode != 0)
        state->remember(entry.name, {i, static_cast<std::uint32_t>(entry.offset)}, most_names_);
      return true;
    });
  }
  std::vector<std::shared_ptr<State>> gone;
  auto states = states_.lock();
  gone = make_room(*states);
  // Another reader of it may have been faster.
  const auto& kept = states->emplace(directory.number, state).first->second;
  kept->last_used = ++clock_;
  return kept;
}

void LinearDirectory::State::remember(std::string_view name, Place place, std::size_t most) {
  if (!indexed_) return;
  // All together may have twice as many as one: others are let go only when one more comes into memory.
  if (size_ < most && all_ < 2 * most) {
    names_.emplace(std::hash<std::string_view>()(name), place);
    ++size_;
    ++all_;
    return;
  }
  indexed_ = false;
  std::unordered_multimap<std::size_t, Place>().swap(names_);
  all_ -= size_.exchange(0);
}

void LinearDirectory::State::forget(std::string_view name, Place place) {
  const auto [begin, end] = names_.equal_range(std::hash<std::string_view>()(name));
  const auto known = std::find_if(begin, end, [&](const auto& candidate) {
    return candidate.second.block == place.block && candidate.second.offset == place.offset;
  });
  if (known == end) return;
  names_.erase(known);
  --size_;
  --all_;
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
    ASSIGN_OR_RETURN(const auto state, loaded(directory));
    if (state->is_indexed()) {
      const auto [begin, end] = state->names().equal_range(std::hash<std::string_view>()(name));
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
  ASSIGN_OR_RETURN(const auto state, loaded(directory));
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
  state->remember(name, {block->index(), 0}, most_names_);
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
  state.remember(name, {index, static_cast<std::uint32_t>(*place)}, most_names_);
  return {};
}

Result<std::uint64_t> LinearDirectory::remove(const Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(auto found, locate(directory, name));
  if (!found) return fail(ENOENT);
  RETURN_IF_ERROR(
      store_.change(directory, found->block, DirectoryForm::kEntries,
                    [&](std::span<std::byte> bytes) { store_.entries().remove(bytes, found->place); }));
  const std::uint32_t index = found->block.index();
  if (const auto state = known(directory.number)) {
    state->room[index] = room_in(found->block.bytes());
    state->forget(name, {index, static_cast<std::uint32_t>(found->place.entry.offset)});
  }
  return found->block.physical();
}

Result<std::uint64_t> LinearDirectory::replace(const Inode& directory, std::string_view name,
                                               InodeNumber inode, mode_t mode) {
  ASSIGN_OR_RETURN(auto found, locate(directory, name));
  if (!found) return fail(ENOENT);
  const auto& entry = found->place.entry;
  RETURN_IF_ERROR(
      store_.change(directory, found->block, DirectoryForm::kEntries, [&](std::span<std::byte> bytes) {
        store_.entries().put(bytes, entry.offset, entry.length, inode, name, mode);
      }));
  return found->block.physical();
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
