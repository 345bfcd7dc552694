// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_image.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "server/ext4/fast_commit_judge.h"

namespace fuse4fs::ext4 {
namespace {

// All bytes of an inode, also those behind what we know of it.
using Whole = std::vector<std::byte>;

constexpr std::uint32_t kXattrMark = EXT2_EXT_ATTR_MAGIC;
// How a file's blocks are kept.
constexpr std::uint32_t kMapForm = EXT4_EXTENTS_FL | EXT4_HUGE_FILE_FL;
constexpr std::uint32_t kDirectoryForm = kMapForm | EXT4_INLINE_DATA_FL | EXT2_INDEX_FL;

std::size_t inode_size(Metadata& metadata) { return EXT2_INODE_SIZE(&metadata.volume.super()); }

Result<Whole> read_whole(Metadata& metadata, InodeNumber number) {
  Whole whole(std::max(inode_size(metadata), sizeof(ext2_inode_large)));
  RETURN_IF_ERROR(metadata.volume.read_inode(number, whole));
  return whole;
}

// The bytes up to `end` become those of `raw`, and of `image` where it is longer than what we know.
void put(Whole& whole, const ext2_inode_large& raw, const InodeImage& image, std::size_t end) {
  std::memcpy(whole.data(), &raw, std::min(end, sizeof raw));
  if (end > sizeof raw)
    std::memcpy(whole.data() + sizeof raw, image.bytes.data() + sizeof raw, end - sizeof raw);
}

// How much of the image is the inode's: only one that holds data in itself brings what lies behind its
// fields.
std::size_t end_of_fields(const Inode& inode, const InodeImage& image) {
  if (inode.has(EXT4_INLINE_DATA_FL)) return image.bytes.size();
  return std::min<std::size_t>(image.bytes.size(), EXT2_GOOD_OLD_INODE_SIZE + inode.raw.i_extra_isize);
}

bool holds_xattrs(const Whole& whole, std::size_t size, std::size_t extra) {
  const std::size_t at = EXT2_GOOD_OLD_INODE_SIZE + extra;
  std::uint32_t mark = 0;
  if (at + sizeof mark > size) return false;
  std::memcpy(&mark, whole.data() + at, sizeof mark);
  return mark == kXattrMark;
}

Inode inode_of_image(const InodeImage& image) {
  Inode inode;
  inode.number = image.inode;
  inode.raw = fields_of(image);
  return inode;
}

void copy_block_count(const Inode& from, Inode& to) {
  to.raw.i_blocks = from.raw.i_blocks;
  to.raw.osd2.linux2.l_i_blocks_hi = from.raw.osd2.linux2.l_i_blocks_hi;
}

void copy_xattr_block(const Inode& from, Inode& to) {
  to.raw.i_file_acl = from.raw.i_file_acl;
  to.raw.osd2.linux2.l_i_file_acl_high = from.raw.osd2.linux2.l_i_file_acl_high;
}

void copy_map(const Inode& from, Inode& to) {
  std::memcpy(to.raw.i_block, from.raw.i_block, sizeof to.raw.i_block);
}

}  // namespace

Result<void> create_from_image(Metadata& metadata, const InodeImage& image) {
  Inode inode = inode_of_image(image);
  const Inode nothing;
  copy_block_count(nothing, inode);
  copy_xattr_block(nothing, inode);
  inode.raw.i_dtime = 0;
  inode.raw.i_flags &= ~static_cast<std::uint32_t>(EXT2_INDEX_FL | EXT4_HUGE_FILE_FL);
  if (inode.is_directory()) {
    inode.raw.i_flags &= ~static_cast<std::uint32_t>(EXT4_INLINE_DATA_FL);
    inode.set_size(0);
    metadata.extents.initialise(inode);
  } else if (inode.has(EXT4_EXTENTS_FL)) {
    metadata.extents.initialise(inode);
  } else if (inode.has_blocks_map()) {
    copy_map(nothing, inode);
  }
  Whole whole(std::max(inode_size(metadata), sizeof inode.raw));
  put(whole, inode.raw, image, end_of_fields(inode, image));
  RETURN_IF_ERROR(metadata.inode_allocator.take_this(inode.number, inode.mode()));
  return metadata.volume.write_inode(inode.number, whole);
}

Result<void> update_from_image(Metadata& metadata, const InodeImage& image) {
  Inode next = inode_of_image(image);
  ASSIGN_OR_RETURN(Inode current, metadata.inodes.read_raw(image.inode));
  const bool inside = !next.is_directory() && next.has(EXT4_INLINE_DATA_FL);
  if (!next.is_directory()) {
    if (inside && !current.has(EXT4_INLINE_DATA_FL)) {
      RETURN_IF_ERROR(metadata.extents.truncate(current, 0));
    } else if (!inside && current.has(EXT4_INLINE_DATA_FL)) {
      RETURN_IF_ERROR(metadata.inline_data.drop(current));
    }
  }
  ASSIGN_OR_RETURN(Whole whole, read_whole(metadata, image.inode));
  copy_block_count(current, next);
  copy_xattr_block(current, next);
  next.raw.i_dtime = current.raw.i_dtime;
  // The checksums of its blocks depend on it, and nobody can change it then.
  if (metadata.volume.has_checksums()) next.raw.i_generation = current.raw.i_generation;
  const std::uint32_t kept = next.is_directory() ? kDirectoryForm : kMapForm;
  if (!inside) {
    next.raw.i_flags = (next.raw.i_flags & ~kept) | (current.raw.i_flags & kept);
    if (next.is_directory()) {
      next.set_size(current.size());
      copy_map(current, next);
    } else if (current.has_blocks_map()) {
      copy_map(current, next);
    }
  }
  std::size_t end = inside ? image.bytes.size() : end_of_fields(next, image);
  if (next.is_directory())
    end = std::min<std::size_t>(image.bytes.size(), EXT2_GOOD_OLD_INODE_SIZE + next.raw.i_extra_isize);
  // Attributes begin where the fields end: while there are any, that place stays.
  const std::size_t extra = current.raw.i_extra_isize;
  if (!inside && next.raw.i_extra_isize != extra && holds_xattrs(whole, inode_size(metadata), extra)) {
    end = std::min(end, EXT2_GOOD_OLD_INODE_SIZE + extra);
    next.raw.i_extra_isize = static_cast<std::uint16_t>(extra);
  }
  put(whole, next.raw, image, end);
  return metadata.volume.write_inode(image.inode, whole);
}

}  // namespace fuse4fs::ext4
