// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inline_directory.h"

#include <algorithm>
#include <cstring>

#include "server/ext4/hash_listing.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kParent = 4;                   // ".." comes first
constexpr std::size_t kSecond = InlineData::kInMap;  // where the second stretch begins
// Where entries will lie when they move to a block, behind "." and "..".
constexpr std::uint64_t kInBlock = entry_length(1) + entry_length(2) - kParent;

}  // namespace

Result<InlineDirectory::Bytes> InlineDirectory::read(const Inode& directory) {
  ASSIGN_OR_RETURN(auto bytes, data_.read(directory));
  const auto& entries = store_.entries();
  auto words = entries.judge(bytes, kParent, kSecond);
  if (words.empty()) words = entries.judge(bytes, kSecond, bytes.size());
  if (!words.empty()) return fail(volume_.corrupted(directory.number, 0, words));
  return bytes;
}

template <class Visit>
bool InlineDirectory::each(const Bytes& bytes, Visit visit) const {
  const auto& entries = store_.entries();
  return entries.each(bytes, kParent, kSecond, visit) && entries.each(bytes, kSecond, bytes.size(), visit);
}

std::optional<DirectoryEntries::Found> InlineDirectory::locate(const Bytes& bytes,
                                                               std::string_view name) const {
  const auto& entries = store_.entries();
  auto found = entries.find(bytes, kParent, kSecond, name);
  return found ? found : entries.find(bytes, kSecond, bytes.size(), name);
}

Result<bool> InlineDirectory::make(Inode& directory, InodeNumber parent) {
  if (!ext2fs_has_feature_inline_data(volume_.super_pointer())) return false;
  const ext2_inode_large before = directory.raw;
  directory.raw.i_flags &= ~static_cast<std::uint32_t>(EXT4_EXTENTS_FL);
  directory.raw.i_flags |= EXT4_INLINE_DATA_FL;
  directory.set_size(kSecond);
  Bytes bytes(kSecond);
  std::memcpy(bytes.data(), &parent, sizeof parent);
  store_.entries().set_length(bytes, kParent, kSecond - kParent);
  const auto made = data_.make(directory, bytes);
  if (made) return true;
  directory.raw = before;
  // Its ACLs fill the inode, or it is too short for any attribute.
  if (made.error() == Errno(ENOSPC)) return false;
  return fail(made.error());
}

// As ext4: the second stretch comes into being, in all the room that the inode has, when the first one is
// full.
Result<bool> InlineDirectory::insert(Inode& directory, std::string_view name, InodeNumber inode,
                                     mode_t mode) {
  ASSIGN_OR_RETURN(auto bytes, read(directory));
  const auto& entries = store_.entries();
  bool placed = entries.insert(bytes, kParent, kSecond, name, inode, mode).has_value();
  if (!placed && bytes.size() == kSecond) {
    ASSIGN_OR_RETURN(const std::size_t room, data_.room_behind(directory));
    if (room <= entry_length(1)) return false;
    bytes.resize(kSecond + room);
    entries.set_length(bytes, kSecond, room);
  }
  if (!placed) placed = entries.insert(bytes, kSecond, bytes.size(), name, inode, mode).has_value();
  if (!placed) return false;
  directory.set_size(bytes.size());
  RETURN_IF_ERROR(data_.rewrite(directory, bytes));
  return true;
}

Result<std::optional<InodeNumber>> InlineDirectory::find(const Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(const auto bytes, read(directory));
  const auto found = locate(bytes, name);
  if (!found) return std::nullopt;
  return found->entry.inode;
}

Result<void> InlineDirectory::remove(Inode& directory, std::string_view name) {
  ASSIGN_OR_RETURN(auto bytes, read(directory));
  const auto found = locate(bytes, name);
  if (!found) return fail(ENOENT);
  store_.entries().remove(bytes, *found);
  return data_.rewrite(directory, bytes);
}

Result<void> InlineDirectory::replace(Inode& directory, std::string_view name, InodeNumber inode,
                                      mode_t mode) {
  ASSIGN_OR_RETURN(auto bytes, read(directory));
  const auto found = locate(bytes, name);
  if (!found) return fail(ENOENT);
  store_.entries().put(bytes, found->entry.offset, found->entry.length, inode, name, mode);
  return data_.rewrite(directory, bytes);
}

Result<void> InlineDirectory::move_out(Inode& directory) {
  ASSIGN_OR_RETURN(const auto bytes, read(directory));
  const auto& entries = store_.entries();
  Entry last;
  each(bytes, [&](const Entry& entry) {
    last = entry;
    return true;
  });
  Bytes block(volume_.block_size());
  const std::size_t end = entries.end();
  if (last.offset + kInBlock + last.length > end)
    return fail(
        volume_.corrupted(directory.number, 0, "a directory inside its inode that is larger than a block"));
  const InodeNumber parent = directory.raw.i_block[0];
  entries.put(block, 0, entry_length(1), directory.number, ".", S_IFDIR);
  entries.put(block, entry_length(1), entry_length(2), parent, "..", S_IFDIR);
  std::memcpy(block.data() + kParent + kInBlock, bytes.data() + kParent, bytes.size() - kParent);
  entries.set_length(block, last.offset + kInBlock, end - last.offset - kInBlock);
  entries.put_tail(block);
  return data_.move_out(directory, volume_.block_size(), [&](std::uint64_t place) {
    return store_.fill_first(directory, place,
                             [&](std::span<std::byte> there) { std::ranges::copy(block, there.begin()); });
  });
}

Result<void> InlineDirectory::list(const Inode& directory, std::uint64_t cookie, const DirectorySink& sink) {
  ASSIGN_OR_RETURN(const auto bytes, read(directory));
  const InodeNumber parent = directory.raw.i_block[0];
  if (const auto version = hasher_.version()) {
    HashListing listing(cookie, sink);
    if (!listing.dots(directory.number, parent)) return {};
    each(bytes, [&](const Entry& entry) {
      if (entry.inode != 0 && !is_dots(entry.name)) listing.add(hasher_.of(entry.name, *version), entry);
      return true;
    });
    if (!listing.give())
      return fail(volume_.corrupted(directory.number, 0, "a directory holds a name twice"));
    return {};
  }
  if (cookie == 0 && !sink({".", directory.number, entry_type(EXT2_FT_DIR), 1})) return {};
  constexpr std::uint64_t kDotDot = entry_length(1);
  if (cookie <= kDotDot && !sink({"..", parent, entry_type(EXT2_FT_DIR), kDotDot + 1})) return {};
  each(bytes, [&](const Entry& entry) {
    const std::uint64_t offset = entry.offset + kInBlock;
    if (entry.inode == 0 || offset < cookie) return true;
    return sink({entry.name, entry.inode, entry_type(entry.type), offset + 1});
  });
  return {};
}

}  // namespace fuse4fs::ext4
