// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/directory_entries.h"

#include <dirent.h>
#include <fmt/format.h>

#include <bit>
#include <utility>

#include "server/ext4/ext2.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kShortest = entry_length(1);

std::uint16_t encode_length(std::size_t length) {
  return length < 65536 ? static_cast<std::uint16_t>(length) : std::uint16_t{65535};
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

DirectoryEntries::DirectoryEntries(const Volume& volume)
    : volume_(volume),
      block_size_(volume.block_size()),
      checksums_(volume.has_checksums()),
      typed_(ext2fs_has_feature_filetype(volume.super_pointer()) != 0) {
  static_assert(kTail == sizeof(ext2_dir_entry_tail));
}

std::uint8_t DirectoryEntries::type_of(mode_t mode) const {
  if (!typed_) return EXT2_FT_UNKNOWN;
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

void DirectoryEntries::put_tail(Changing block) const {
  if (!checksums_) return;
  ext2_dir_entry_tail tail{};
  tail.det_rec_len = kTail;
  tail.det_reserved_name_len = EXT2_DIR_NAME_LEN_CSUM;
  std::memcpy(block.data() + end(), &tail, kTail);
}

bool DirectoryEntries::has_tail(Bytes block) const {
  ext2_dir_entry_tail tail;
  std::memcpy(&tail, block.data() + block.size() - kTail, kTail);
  return tail.det_reserved_zero1 == 0 && tail.det_rec_len == kTail &&
         tail.det_reserved_name_len == EXT2_DIR_NAME_LEN_CSUM;
}

std::string DirectoryEntries::judge(Bytes bytes, std::size_t begin, std::size_t end) const {
  const auto wrong = [](std::size_t offset, std::string_view words) {
    return fmt::format("a directory entry at byte {} {}", offset, words);
  };
  const InodeNumber inodes = volume_.super().s_inodes_count;
  for (std::size_t offset = begin; offset < end;) {
    if (offset + kShortest > end) return wrong(offset, "is cut off");
    const Header header = header_at(bytes, offset);
    const std::size_t length = decode_length(header.length);
    if (length < kShortest || length % 4 != 0 || length > end - offset)
      return wrong(offset, fmt::format("has an impossible length ({})", length));
    // What is not in use may hold anything.
    if (header.inode != 0) {
      const std::size_t name_length = header.name_length | (typed_ ? 0U : header.type << 8U);
      if (name_length == 0 || name_length > kMaxNameLength || entry_length(name_length) > length)
        return wrong(offset, fmt::format("has an impossible name length ({})", name_length));
      if (header.inode > inodes)
        return wrong(offset, fmt::format("has the impossible inode {}", header.inode));
      const auto* const name = bytes.data() + offset + kHeader;
      if (std::memchr(name, '/', name_length) != nullptr || std::memchr(name, '\0', name_length) != nullptr)
        return wrong(offset, "has a '/' or NUL in its name");
    }
    offset += length;
  }
  return {};
}

// A block may hold two hundred names of one length: they are told apart by the last bytes of the one that is
// wanted, looked at wherever they would lie. (Before those of a short name lies its header.)
DirectoryEntries::Search DirectoryEntries::search(Bytes bytes, std::size_t begin, std::size_t end,
                                                  std::string_view name) const {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::size_t kLast = sizeof(std::uint64_t);
  const std::size_t length = name.size();
  const std::size_t rest = length > kLast ? length - kLast : 0;
  const std::uint64_t mask = length < kLast ? ~std::uint64_t{0} << (8 * (kLast - length)) : ~std::uint64_t{0};
  std::uint64_t wanted = 0;
  std::memcpy(reinterpret_cast<char*>(&wanted) + kLast - (length - rest), name.data() + rest, length - rest);

  const auto is_at = [&](std::size_t offset) {
    const Header header = header_at(bytes, offset);
    return header.inode != 0 && header.name_length == length &&
           std::memcmp(bytes.data() + offset + kHeader, name.data(), rest) == 0;
  };
  Search search;
  // Nearly all are too short to have room beside the shortest name: those need no look at theirs.
  const std::size_t needed = entry_length(length);
  std::size_t enough = needed + kShortest;
  const auto look_for_room = [&](std::size_t offset) {
    const Header header = header_at(bytes, offset);
    const std::size_t used = header.inode == 0 ? 0 : entry_length(header.name_length);
    if (decode_length(header.length) < used + needed) return;
    search.roomy = offset;
    enough = SIZE_MAX;
  };
  // Only the first one of a block is usually not in use.
  if (begin < end) look_for_room(begin);
  std::size_t offset = begin, before = begin;
  // Where the name would not fit before the end it is not.
  if (kHeader + length <= end) {
    for (const std::size_t most = end - kHeader - length; offset <= most;) {
      std::uint64_t last = 0;
      std::memcpy(&last, bytes.data() + offset + kHeader + length - kLast, kLast);
      if ((last & mask) == wanted) [[unlikely]] {
        if (is_at(offset)) {
          search.found = Found{at(bytes, offset), std::nullopt};
          if (offset != begin) search.found->before = at(bytes, before);
          return search;
        }
      }
      const std::size_t step = length_at(bytes, offset);
      if (step >= enough) [[unlikely]]
        look_for_room(offset);
      before = offset;
      offset += step;
    }
  }
  for (; offset < end; offset += length_at(bytes, offset)) {
    if (length_at(bytes, offset) >= enough) look_for_room(offset);
  }
  return search;
}

std::optional<DirectoryEntries::Entry> DirectoryEntries::find_room(Bytes bytes, std::size_t begin,
                                                                   std::size_t end,
                                                                   std::size_t needed) const {
  for (std::size_t offset = begin; offset < end;) {
    const Header header = header_at(bytes, offset);
    const std::size_t length = decode_length(header.length);
    const std::size_t used = header.inode == 0 ? 0 : entry_length(header.name_length);
    if (length >= used + needed) return at(bytes, offset);
    offset += length;
  }
  return std::nullopt;
}

std::size_t DirectoryEntries::insert_behind(Changing bytes, const Entry& roomy, std::string_view name,
                                            InodeNumber inode, mode_t mode) const {
  const std::size_t used = roomy.used();
  if (used != 0) set_length(bytes, roomy.offset, used);
  put(bytes, roomy.offset + used, roomy.length - used, inode, name, mode);
  return roomy.offset + used;
}

std::optional<std::size_t> DirectoryEntries::insert(Changing bytes, std::size_t begin, std::size_t end,
                                                    std::string_view name, InodeNumber inode,
                                                    mode_t mode) const {
  const auto roomy = find_room(bytes, begin, end, entry_length(name.size()));
  if (!roomy) return std::nullopt;
  return insert_behind(bytes, *roomy, name, inode, mode);
}

void DirectoryEntries::remove(Changing bytes, const Found& gone) const {
  const std::size_t offset = gone.entry.offset;
  std::memset(bytes.data() + offset + kHeader, 0, gone.entry.length - kHeader);
  std::memset(bytes.data() + offset, 0, sizeof(std::uint32_t));
  if (!gone.before) return;
  std::memset(bytes.data() + offset, 0, kHeader);
  set_length(bytes, gone.before->offset, gone.before->length + gone.entry.length);
}

void DirectoryEntries::replace(Changing bytes, const Entry& entry, InodeNumber inode, mode_t mode) const {
  Header header = header_at(bytes, entry.offset);
  header.inode = inode;
  header.type = type_of(mode);
  std::memcpy(bytes.data() + entry.offset, &header, kHeader);
}

void DirectoryEntries::set_length(Changing bytes, std::size_t offset, std::size_t length) const {
  const std::uint16_t stored = encode_length(length);
  std::memcpy(bytes.data() + offset + offsetof(Header, length), &stored, sizeof stored);
}

void DirectoryEntries::put(Changing bytes, std::size_t offset, std::size_t length, InodeNumber inode,
                           std::string_view name, mode_t mode) const {
  const Header header{inode, encode_length(length), static_cast<std::uint8_t>(name.size()), type_of(mode)};
  std::memcpy(bytes.data() + offset, &header, kHeader);
  std::memcpy(bytes.data() + offset + kHeader, name.data(), name.size());
  // The name's padding shows nothing of what was there.
  const std::size_t padding = entry_length(name.size()) - kHeader - name.size();
  std::memset(bytes.data() + offset + kHeader + name.size(), 0, padding);
}

}  // namespace fuse4fs::ext4
