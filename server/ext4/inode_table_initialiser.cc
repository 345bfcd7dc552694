// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_table_initialiser.h"

#include <algorithm>
#include <new>

#include "base/zeros.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
Result<bool> InodeTableInitialiser::next() {
  const auto& groups = volume_.groups();
  while (next_ < groups.count() && !groups.has_stale_table(next_)) ++next_;
  if (next_ == groups.count() || !volume_.check_writable()) {
    memory_.reset();
    return false;
  }
  get_memory();
  // Whatever comes of it: one that fails is not tried again.
  const GroupNumber group = next_++;
  const auto in_use = volume_.inode_bitmaps().uses_unused(group);
  if (!in_use && in_use.error() != kCorrupted) return fail(in_use.error());
  // What is damaged is left for e2fsck: a descriptor may say too little.
  if (!in_use || *in_use) return true;
  RETURN_IF_ERROR(write(group));
  volume_.note_table_initialised(group);
  return true;
}

void InodeTableInitialiser::get_memory() {
  constexpr std::size_t kPage = 4096;
  if (memory_) return;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kPage, kPiece)));
  if (!memory_) throw std::bad_alloc();
}

Result<void> InodeTableInitialiser::write(GroupNumber group) {
  const std::span piece(memory_.get(), kPiece);
  auto& groups = volume_.groups();
  const auto& device = volume_.device();
  const unsigned bits = volume_.block_bits();
  const std::uint64_t table = groups.inode_table(group);
  const std::uint64_t end = volume_.fs()->inode_blocks_per_group;
  for (std::uint64_t first = 0; first < end; first += kPiece >> bits) {
    const auto lock = groups.lock(group);
    // Others go on taking inodes meanwhile.
    const std::uint64_t from = std::max<std::uint64_t>(first, groups.used_table_blocks(group));
    const std::uint64_t until = std::min(end, first + (kPiece >> bits));
    if (from >= until) continue;
    const std::uint64_t offset = (table + from) << bits;
    const std::size_t length = (until - from) << bits;
    RETURN_IF_ERROR(device.read_direct(offset, piece.first(length)));
    if (!is_zero(piece.first(length)))
      RETURN_IF_ERROR(device.write_zeros(cache::IoPath::kDirect, offset, length));
  }
  return {};
}

}  // namespace fuse4fs::ext4
