// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inline_data.h"

#include <cstring>
#include <span>

#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
Result<std::vector<std::byte>> InlineData::read(const Inode& inode) {
  static_assert(kInMap == sizeof inode.raw.i_block);
  ASSIGN_OR_RETURN(const auto rest, xattrs_.get(inode, kInlineDataXattr));
  std::vector<std::byte> bytes(kInMap + (rest ? rest->size() : 0));
  std::memcpy(bytes.data(), inode.raw.i_block, kInMap);
  if (rest && !rest->empty()) std::memcpy(bytes.data() + kInMap, rest->data(), rest->size());
  return bytes;
}

Result<void> InlineData::make(Inode& inode, const std::vector<std::byte>& bytes) {
  std::memcpy(inode.raw.i_block, bytes.data(), kInMap);
  return xattrs_.set_inline_data(inode, std::span(bytes).subspan(kInMap));
}

Result<void> InlineData::rewrite(Inode& inode, const std::vector<std::byte>& bytes) {
  std::memcpy(inode.raw.i_block, bytes.data(), kInMap);
  if (bytes.size() > kInMap) return xattrs_.set_inline_data(inode, std::span(bytes).subspan(kInMap));
  return volume_.write_inode(inode);
}

Result<void> InlineData::drop(Inode& inode) {
  RETURN_IF_ERROR(xattrs_.remove(inode, kInlineDataXattr));
  inode.raw.i_flags &= ~static_cast<std::uint32_t>(EXT4_INLINE_DATA_FL);
  extents_.initialise(inode);
  return volume_.write_inode(inode);
}

Result<void> InlineData::move_out(Inode& file, std::uint64_t new_size,
                                  const std::vector<std::byte>& content) {
  // To the device and not into the cache: a file's later writes go past the cache.
  return move_out(file, new_size, [&](std::uint64_t block) {
    volume_.order().note_contents_moved();
    return volume_.device().write(block << volume_.block_bits(), content);
  });
}

Result<void> InlineData::move_out(Inode& inode, std::uint64_t new_size, const Fill& fill) {
  // The new place first: nothing is lost when there is none.
  ASSIGN_OR_RETURN(const BlockRun run, blocks_.take(inode, extents_.goal_for(inode, 0)));
  const auto give_up = [&](Errno error) {
    (void)blocks_.give_back(run, inode.number);
    return fail(error);
  };
  if (const auto filled = fill(run.first); !filled) return give_up(filled.error());
  if (const auto dropped = drop(inode); !dropped) return give_up(dropped.error());
  RETURN_IF_ERROR(extents_.insert(inode, 0, run.first, 1));
  RETURN_IF_ERROR(extents_.add_blocks(inode, 1));
  inode.set_size(new_size);
  return volume_.write_inode(inode);
}

}  // namespace fuse4fs::ext4
