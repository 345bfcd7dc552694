// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {

Errno from_ext2(errcode_t code) {
  // Numbers of the C library come through as they are. Below 0 is nothing that libext2fs gives.
  if (code > 0 && code < 256) return Errno(static_cast<int>(code));
  switch (code) {
    case EXT2_ET_NO_MEMORY:
      return Errno(ENOMEM);
    case EXT2_ET_RO_FILSYS:
      return Errno(EROFS);
    case EXT2_ET_BLOCK_ALLOC_FAIL:
    case EXT2_ET_INODE_ALLOC_FAIL:
    case EXT2_ET_DIR_NO_SPACE:
    case EXT2_ET_EA_NO_SPACE:
    case EXT2_ET_INLINE_DATA_NO_SPACE:
      return Errno(ENOSPC);
    case EXT2_ET_FILE_TOO_BIG:
    case EXT2_ET_EXTENT_INVALID_LENGTH:
      return Errno(EFBIG);
    case EXT2_ET_FILE_EXISTS:
    case EXT2_ET_DIR_EXISTS:
      return Errno(EEXIST);
    case EXT2_ET_FILE_NOT_FOUND:
      return Errno(ENOENT);
    case EXT2_ET_NO_DIRECTORY:
      return Errno(ENOTDIR);
    case EXT2_ET_EA_KEY_NOT_FOUND:
      return Errno(ENODATA);
    case EXT2_ET_UNIMPLEMENTED:
    case EXT2_ET_OP_NOT_SUPPORTED:
    case EXT2_ET_UNSUPP_FEATURE:
    case EXT2_ET_RO_UNSUPP_FEATURE:
      return Errno(EOPNOTSUPP);
    case EXT2_ET_SHORT_READ:
    case EXT2_ET_SHORT_WRITE:
    case EXT2_ET_BLOCK_BITMAP_READ:
    case EXT2_ET_BLOCK_BITMAP_WRITE:
    case EXT2_ET_INODE_BITMAP_READ:
    case EXT2_ET_INODE_BITMAP_WRITE:
    case EXT2_ET_GDESC_READ:
    case EXT2_ET_GDESC_WRITE:
      return Errno(EIO);
    default:
      return is_corruption(code) ? kCorrupted : Errno(EIO);
  }
}

bool is_corruption(errcode_t code) {
  switch (code) {
    case EXT2_ET_BAD_MAGIC:
    case EXT2_ET_CORRUPT_SUPERBLOCK:
    case EXT2_ET_SB_CSUM_INVALID:
    case EXT2_ET_UNKNOWN_CSUM:
    case EXT2_ET_BAD_DESC_SIZE:
    case EXT2_ET_GDESC_BAD_BLOCK_MAP:
    case EXT2_ET_GDESC_BAD_INODE_MAP:
    case EXT2_ET_GDESC_BAD_INODE_TABLE:
    case EXT2_ET_MISSING_INODE_TABLE:
    case EXT2_ET_BLOCK_BITMAP_CSUM_INVALID:
    case EXT2_ET_INODE_BITMAP_CSUM_INVALID:
    case EXT2_ET_INODE_CSUM_INVALID:
    case EXT2_ET_INODE_IS_GARBAGE:
    case EXT2_ET_EXTENT_CSUM_INVALID:
    case EXT2_ET_EXTENT_HEADER_BAD:
    case EXT2_ET_EXTENT_INDEX_BAD:
    case EXT2_ET_EXTENT_LEAF_BAD:
    case EXT2_ET_EXTENT_CYCLE:
    case EXT2_ET_EXTENT_NO_DOWN:
    case EXT2_ET_INODE_NOT_EXTENT:
    case EXT2_ET_DIR_CORRUPTED:
    case EXT2_ET_DIR_CSUM_INVALID:
    case EXT2_ET_DIR_NO_SPACE_FOR_CSUM:
    case EXT2_ET_BAD_INODE_NUM:
    case EXT2_ET_BAD_BLOCK_NUM:
    case EXT2_ET_BAD_EA_BLOCK_NUM:
    case EXT2_ET_BAD_EA_HEADER:
    case EXT2_ET_EXT_ATTR_CSUM_INVALID:
    case EXT2_ET_EA_BAD_NAME_LEN:
    case EXT2_ET_EA_BAD_VALUE_SIZE:
    case EXT2_ET_EA_BAD_VALUE_OFFSET:
    case EXT2_ET_EA_INODE_CORRUPTED:
    case EXT2_ET_INLINE_DATA_CANT_ITERATE:
    case EXT2_ET_INLINE_DATA_NO_BLOCK:
    case EXT2_FILSYS_CORRUPTED:
      return true;
    default:
      return false;
  }
}

}  // namespace fuse4fs::ext4
