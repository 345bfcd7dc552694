// SPDX-License-Identifier: GPL-2.0-or-later
// Directory: entries in blocks, and what is kept of directories in memory.
#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "server/ext4/directory.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kHeader = 8;
constexpr std::size_t kTail = sizeof(ext2_dir_entry_tail);
constexpr std::size_t kStates = 1024;

// Directories of so few blocks are searched as they are.
constexpr std::size_t kSearchable = 2;

ext2_dir_entry* raw_entry(std::span<std::byte> bytes, std::size_t offset) {
  return reinterpret_cast<ext2_dir_entry*>(bytes.data() + offset);
}

}  // namespace

std::uint8_t entry_type(std::uint8_t on_volume) {
  switch (on_volume) {
    case EXT2_FT_REG_FILE:
      return DT_REG;
    case EXT2_FT_DIR:
      return DT_DIR;
    case EXT2_FT_CHRDEV:
      return DT_CHR;
    case EXT2_FT_BLKDEV:
      return DT_BLK;
    case EXT2_FT_FIFO:
      return DT_FIFO;
    case EXT2_FT_SOCK:
      return DT_SOCK;
    case EXT2_FT_SYMLINK:
      return DT_LNK;
    default:
      return DT_UNKNOWN;
  }
}

std::uint8_t Directory::type_of(mode_t mode) const {
  if (!ext2fs_has_feature_filetype(volume_.super_pointer())) return EXT2_FT_UNKNOWN;
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EXT2_FT_REG_FILE;
    case S_IFDIR:
      return EXT2_FT_DIR;
    case S_IFCHR:
      return EXT2_FT_CHRDEV;
    case S_IFBLK:
      return EXT2_FT_BLKDEV;
    case S_IFIFO:
      return EXT2_FT_FIFO;
    case S_IFSOCK:
      return EXT2_FT_SOCK;
    case S_IFLNK:
      return EXT2_FT_SYMLINK;
    default:
      return EXT2_FT_UNKNOWN;
  }
}

Result<Directory::Entry> Directory::entry_at(const Inode& directory, std::span<const std::byte> bytes,
                                             std::size_t offset, std::uint64_t block) {
  const auto wrong = [&](std::string_view words) {
    return fail(volume_.corrupted(directory.number, block,
                                  fmt::format("a directory entry at byte {} {}", offset, words)));
  };
  if (offset + kHeader > bytes.size()) return wrong("is cut off");
  ext2_dir_entry header;
  std::memcpy(&header, bytes.data() + offset, kHeader);
  unsigned length = 0;
  if (ext2fs_get_rec_len(volume_.fs(), &header, &length) != 0 || length < kHeader || length % 4 != 0 ||
      length > bytes.size() - offset)
    return wrong(fmt::format("has an impossible length ({})", header.rec_len));
  const bool typed = ext2fs_has_feature_filetype(volume_.super_pointer()) != 0;
  const std::size_t name_length = typed ? header.name_len & 0xff : header.name_len;
  Entry entry{offset,
              length,
              header.inode,
              typed ? static_cast<std::uint8_t>(header.name_len >> 8) : std::uint8_t{0},
              {}};
  // What is not in use may hold anything.
  if (entry.inode == 0) return entry;
  if (name_length == 0 || name_length > kMaxNameLength || entry_length(name_length) > length)
    return wrong(fmt::format("has an impossible name length ({})", name_length));
  if (entry.inode > volume_.super().s_inodes_count)
    return wrong(fmt::format("has the impossible inode {}", entry.inode));
  entry.name = {reinterpret_cast<const char*>(bytes.data()) + offset + kHeader, name_length};
  if (entry.name.find('/') != std::string_view::npos || entry.name.find('\0') != std::string_view::npos)
    return wrong("has a '/' or NUL in its name");
  return entry;
}

std::size_t Directory::end_of_entries(std::span<const std::byte> block) const {
  if (!volume_.has_checksums()) return block.size();
  // Blocks of a hash tree have no tail, but may show one that was there before: only what the entries lead to
  // counts. To a linear reader such blocks are one unused entry.
  const std::size_t place = block.size() - kTail;
  for (std::size_t at = 0; at < place;) {
    ext2_dir_entry header;
    std::memcpy(&header, block.data() + at, kHeader);
    unsigned length = 0;
    if (ext2fs_get_rec_len(volume_.fs(), &header, &length) != 0 || length < kHeader || length > place - at)
      return block.size();
    at += length;
  }
  ext2_dir_entry_tail tail;
  std::memcpy(&tail, block.data() + place, kTail);
  const bool present = tail.det_reserved_zero1 == 0 && tail.det_rec_len == kTail &&
                       tail.det_reserved_name_len == EXT2_DIR_NAME_LEN_CSUM;
  return present ? place : block.size();
}

void Directory::set_length(std::span<std::byte> bytes, std::size_t offset, std::size_t length) {
  ext2fs_set_rec_len(volume_.fs(), static_cast<unsigned>(length), raw_entry(bytes, offset));
}

void Directory::put_entry(std::span<std::byte> bytes, std::size_t offset, std::size_t length,
                          InodeNumber inode, std::string_view name, mode_t mode) {
  set_length(bytes, offset, length);
  const auto name_len = static_cast<std::uint16_t>(name.size() | type_of(mode) << 8);
  std::memcpy(bytes.data() + offset, &inode, sizeof inode);
  std::memcpy(bytes.data() + offset + 6, &name_len, sizeof name_len);
  std::memcpy(bytes.data() + offset + kHeader, name.data(), name.size());
  // The name's padding shows nothing of what was there.
  const std::size_t padding = entry_length(name.size()) - kHeader - name.size();
  std::memset(bytes.data() + offset + kHeader + name.size(), 0, padding);
}

std::size_t Directory::put_tail(Bytes& block) {
  if (!volume_.has_checksums()) return block.size();
  ext2_dir_entry_tail tail{};
  tail.det_rec_len = kTail;
  tail.det_reserved_name_len = EXT2_DIR_NAME_LEN_CSUM;
  std::memcpy(block.data() + block.size() - kTail, &tail, kTail);
  return block.size() - kTail;
}

Result<void> Directory::read_block(const Inode& directory, std::uint64_t physical, Bytes& into) {
  into.resize(volume_.block_size());
  return volume_.check(ext2fs_read_dir_block4(volume_.fs(), physical, into.data(), 0, directory.number),
                       directory.number, "reading a directory");
}

Result<void> Directory::write_block(const Inode& directory, std::uint64_t physical, Bytes& bytes) {
  return volume_.check(ext2fs_write_dir_block4(volume_.fs(), physical, bytes.data(), 0, directory.number),
                       directory.number, "writing a directory");
}

std::size_t Directory::names_in_memory() const {
  std::size_t names = 0;
  for (const auto& [inode, state] : states_) names += state.names.size();
  return names;
}

void Directory::make_room_for_state() {
  std::size_t names = names_in_memory();
  while (states_.size() >= kStates || names > most_names_) {
    const auto oldest = std::min_element(states_.begin(), states_.end(), [](const auto& a, const auto& b) {
      return a.second.last_used < b.second.last_used;
    });
    if (oldest == states_.end()) return;
    names -= oldest->second.names.size();
    states_.erase(oldest);
  }
}

Result<Directory::State*> Directory::state_of(const Inode& directory) {
  if (const auto known = states_.find(directory.number); known != states_.end()) {
    known->second.last_used = ++clock_;
    return &known->second;
  }
  const auto wrong = [&](std::string_view words) {
    return fail(volume_.corrupted(directory.number, 0, words));
  };
  const std::uint64_t count = directory.size() >> volume_.block_bits();
  if (count == 0 || count << volume_.block_bits() != directory.size() || count > volume_.blocks())
    return wrong(fmt::format("a directory of {} bytes", directory.size()));
  if (count > directory.sectors(volume_.super(), volume_.block_size()) >> (volume_.block_bits() - 9))
    return wrong(fmt::format("a directory of {} bytes that owns fewer blocks", directory.size()));
  ASSIGN_OR_RETURN(const auto parts, extents_.map(directory, 0, count));
  State state;
  for (const auto& part : parts) {
    if (part.kind != Mapping::Kind::kWritten) return wrong("a directory with a hole");
    for (std::uint64_t i = 0; i < part.count; ++i) state.blocks.push_back(part.physical + i);
  }
  if (state.blocks.size() != count) return wrong("a directory longer than its blocks");
  // One block in many places would let a small volume ask for much memory.
  auto sorted = state.blocks;
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end())
    return fail(volume_.corrupted(directory.number, *twice, "a directory holds a block twice"));
  make_room_for_state();
  state.last_used = ++clock_;
  return &states_.emplace(directory.number, std::move(state)).first->second;
}

Result<void> Directory::load_names(const Inode& directory, State& state) {
  if (state.named) return {};
  Bytes block;
  state.names.clear();
  state.subdirectories = 0;
  state.indexed = true;
  state.room.assign(state.blocks.size(), 0);
  for (std::uint32_t i = 0; i < state.blocks.size(); ++i) {
    RETURN_IF_ERROR(read_block(directory, state.blocks[i], block));
    RETURN_IF_ERROR(
        each_entry(directory, block, 0, end_of_entries(block), state.blocks[i], [&](const Entry& entry) {
          const std::size_t used = entry.inode == 0 ? 0 : entry_length(entry.name.size());
          state.room[i] = std::max(state.room[i], static_cast<std::uint32_t>(entry.length - used));
          if (entry.inode != 0)
            remember_entry(state, entry.type, entry.name, {i, static_cast<std::uint32_t>(entry.offset)});
          return true;
        }));
  }
  state.named = true;
  return {};
}

void Directory::remember_entry(State& state, std::uint8_t type, std::string_view name, Place place) {
  if (type == EXT2_FT_DIR && name != "." && name != "..") ++state.subdirectories;
  if (!state.indexed) return;
  if (state.names.size() < most_names_) {
    state.names.emplace(std::hash<std::string_view>()(name), place);
    return;
  }
  // Too many to keep: this directory is scanned from now on.
  state.indexed = false;
  std::unordered_multimap<std::size_t, Place>().swap(state.names);
}

Result<std::optional<Directory::Found>> Directory::locate(const Inode& directory, State& state,
                                                          std::string_view name, Bytes& block) {
  if (state.blocks.size() > kSearchable || state.named) {
    RETURN_IF_ERROR(load_names(directory, state));
  }
  if (state.named && state.indexed) {
    const auto [begin, end] = state.names.equal_range(std::hash<std::string_view>()(name));
    for (auto candidate = begin; candidate != end; ++candidate) {
      const Place place = candidate->second;
      RETURN_IF_ERROR(read_block(directory, state.blocks[place.block], block));
      ASSIGN_OR_RETURN(const auto entry, entry_at(directory, block, place.offset, state.blocks[place.block]));
      if (entry.inode != 0 && entry.name == name) return Found{place, entry.inode};
    }
    return std::nullopt;
  }
  for (std::uint32_t i = 0; i < state.blocks.size(); ++i) {
    std::optional<Found> found;
    RETURN_IF_ERROR(read_block(directory, state.blocks[i], block));
    RETURN_IF_ERROR(
        each_entry(directory, block, 0, end_of_entries(block), state.blocks[i], [&](const Entry& entry) {
          if (entry.inode != 0 && entry.name == name)
            found = Found{{i, static_cast<std::uint32_t>(entry.offset)}, entry.inode};
          return !found;
        }));
    if (found) return found;
  }
  return std::nullopt;
}

}  // namespace fuse4fs::ext4
