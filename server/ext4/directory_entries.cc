// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/directory_entries.h"

#include <dirent.h>
#include <fmt/format.h>

#include "server/ext4/ext2.h"
#include "server/ext4/volume.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kHeader = 8;
constexpr std::size_t kTail = sizeof(ext2_dir_entry_tail);
constexpr std::size_t kShortest = entry_length(1);

struct Header {
  std::uint32_t inode;
  std::uint16_t length;
  std::uint8_t name_length;
  std::uint8_t type;  // without the feature filetype, the high byte of the name's length
};
static_assert(sizeof(Header) == kHeader);

Header header_at(std::span<const std::byte> bytes, std::size_t offset) {
  Header header;
  std::memcpy(&header, bytes.data() + offset, sizeof header);
  return header;
}

// 16 bits hold lengths up to 64 KiB: those of blocks that large have two bits of theirs where others have
// zeros, and the whole block is 65535 or 0.
std::size_t decode_length(std::uint16_t stored, std::size_t block_size) {
  if (block_size < 65536) return stored;
  if (stored == 65535 || stored == 0) return block_size;
  return (stored & 65532U) | static_cast<std::size_t>(stored & 3U) << 16;
}

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

bool DirectoryEntries::typed() const { return ext2fs_has_feature_filetype(volume_.super_pointer()) != 0; }

std::uint8_t DirectoryEntries::type_of(mode_t mode) const {
  if (!typed()) return EXT2_FT_UNKNOWN;
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

std::size_t DirectoryEntries::end() const {
  return volume_.block_size() - (volume_.has_checksums() ? kTail : 0);
}

void DirectoryEntries::put_tail(Changing block) const {
  if (!volume_.has_checksums()) return;
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
  const bool has_types = typed();
  const InodeNumber inodes = volume_.super().s_inodes_count;
  for (std::size_t offset = begin; offset < end;) {
    if (offset + kShortest > end) return wrong(offset, "is cut off");
    const Header header = header_at(bytes, offset);
    const std::size_t length = decode_length(header.length, volume_.block_size());
    if (length < kShortest || length % 4 != 0 || length > end - offset)
      return wrong(offset, fmt::format("has an impossible length ({})", length));
    // What is not in use may hold anything.
    if (header.inode != 0) {
      const std::size_t name_length = header.name_length | (has_types ? 0U : header.type << 8U);
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

DirectoryEntries::Entry DirectoryEntries::at(Bytes bytes, std::size_t offset) const {
  const Header header = header_at(bytes, offset);
  Entry entry{offset,
              decode_length(header.length, volume_.block_size()),
              header.inode,
              typed() ? header.type : std::uint8_t{0},
              {}};
  if (header.inode != 0)
    entry.name = {reinterpret_cast<const char*>(bytes.data()) + offset + kHeader, header.name_length};
  return entry;
}

std::optional<DirectoryEntries::Found> DirectoryEntries::find(Bytes bytes, std::size_t begin, std::size_t end,
                                                              std::string_view name) const {
  std::optional<std::size_t> before;
  for (std::size_t offset = begin; offset < end;) {
    const Header header = header_at(bytes, offset);
    if (header.inode != 0 && header.name_length == name.size() &&
        std::memcmp(bytes.data() + offset + kHeader, name.data(), name.size()) == 0) {
      Found found{at(bytes, offset), std::nullopt};
      if (before) found.before = at(bytes, *before);
      return found;
    }
    before = offset;
    offset += decode_length(header.length, volume_.block_size());
  }
  return std::nullopt;
}

std::optional<std::size_t> DirectoryEntries::insert(Changing bytes, std::size_t begin, std::size_t end,
                                                    std::string_view name, InodeNumber inode,
                                                    mode_t mode) const {
  const std::size_t needed = entry_length(name.size());
  for (std::size_t offset = begin; offset < end;) {
    const Header header = header_at(bytes, offset);
    const std::size_t length = decode_length(header.length, volume_.block_size());
    const std::size_t used = header.inode == 0 ? 0 : entry_length(header.name_length);
    if (length - used >= needed) {
      if (used != 0) set_length(bytes, offset, used);
      put(bytes, offset + used, length - used, inode, name, mode);
      return offset + used;
    }
    offset += length;
  }
  return std::nullopt;
}

void DirectoryEntries::remove(Changing bytes, const Found& gone) const {
  const std::size_t offset = gone.entry.offset;
  std::memset(bytes.data() + offset + kHeader, 0, gone.entry.length - kHeader);
  std::memset(bytes.data() + offset, 0, sizeof(std::uint32_t));
  if (!gone.before) return;
  std::memset(bytes.data() + offset, 0, kHeader);
  set_length(bytes, gone.before->offset, gone.before->length + gone.entry.length);
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
