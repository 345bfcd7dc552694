// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/orphan_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "server/ext4/crc32c.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::size_t kTail = 8;            // mark and checksum
constexpr std::uint64_t kMostBlocks = 512;  // of the orphan file, as in the kernel
constexpr std::uint32_t kMark = EXT4_ORPHAN_BLOCK_MAGIC;

bool has_blocks_to_truncate(Volume& volume, const Inode& inode) {
  if (inode.is_regular() || inode.is_directory()) return true;
  return inode.is_symlink() && inode.has_blocks_map() &&
         inode.sectors(volume.super(), volume.block_size()) != 0;
}

}  // namespace

bool has_orphans(const ext2_super_block& super) {
  return super.s_last_orphan != 0 || (super.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT) != 0;
}

Result<OrphanVerdict> judge_orphan(Metadata& metadata, InodeNumber number) {
  auto& volume = metadata.volume;
  OrphanVerdict verdict;
  const auto wrong = [&](std::string_view why) {
    verdict.why = why;
    return verdict;
  };
  if (number == kRootInode || !metadata.inodes.may_be_a_file(number))
    return wrong("has a number that no file can have");
  if (!metadata.inode_allocator.in_use(number)) return wrong("is not in use");
  ASSIGN_OR_RETURN(Inode inode, metadata.inodes.read_raw(number));
  verdict.next = inode.raw.i_dtime;
  if (inode.raw.i_links_count != 0 && !has_blocks_to_truncate(volume, inode))
    return wrong("has a name, and nothing to truncate");
  if (inode.raw.i_links_count != 0 && inode.has(EXT4_EA_INODE_FL))
    return wrong("is the value of an attribute");
  const unsigned room = EXT2_INODE_SIZE(&volume.super()) - EXT2_GOOD_OLD_INODE_SIZE;
  if (inode.raw.i_extra_isize > room || inode.raw.i_extra_isize % 4 != 0)
    return wrong("is longer than its place");
  verdict.inode = inode;
  return verdict;
}

Result<OrphanChain> read_orphan_chain(Metadata& metadata) {
  const auto& super = metadata.volume.super();
  OrphanChain chain;
  // A chain that comes back to where it was is damaged. Memory: what is in it, and not what the superblock
  // says of the number of inodes.
  std::unordered_set<InodeNumber> seen;
  for (InodeNumber number = super.s_last_orphan; number != 0;) {
    if (!seen.insert(number).second) {
      chain.bad = number;
      break;
    }
    ASSIGN_OR_RETURN(const auto verdict, judge_orphan(metadata, number));
    if (!verdict.inode) {
      chain.bad = number;
      break;
    }
    chain.members.push_back(number);
    number = verdict.next;
  }
  return chain;
}

Result<void> write_orphan_chain(Metadata& metadata, const OrphanChain& chain) {
  InodeNumber next = chain.bad;
  for (auto member = chain.members.rbegin(); member != chain.members.rend(); ++member) {
    ASSIGN_OR_RETURN(Inode inode, metadata.inodes.read_raw(*member));
    inode.raw.i_dtime = next;
    RETURN_IF_ERROR(metadata.inodes.write(inode));
    next = *member;
  }
  metadata.volume.super_pointer()->s_last_orphan = next;
  ext2fs_mark_super_dirty(metadata.volume.fs());
  return {};
}

Outcome<std::optional<OrphanFile>> OrphanFile::open(Metadata& metadata) {
  auto& volume = metadata.volume;
  auto* const super = volume.super_pointer();
  if (!ext2fs_has_feature_orphan_file(super) || !ext2fs_has_feature_orphan_present(super))
    return std::nullopt;
  const auto wrong = [](std::string_view why) {
    return fail(kCorrupted, fmt::format("the orphan file {}; run: e2fsck DEVICE", why));
  };
  const InodeNumber number = super->s_orphan_file_inum;
  if (number == 0 || number > super->s_inodes_count) return wrong(fmt::format("is inode {}", number));
  const auto read = metadata.inodes.read_raw(number);
  if (!read) return wrong(fmt::format("(inode {}) cannot be read", number));
  const Inode& inode = *read;
  const std::uint64_t size = inode.size();
  if (!inode.is_regular() || !inode.has_blocks_map() || size % volume.block_size() != 0)
    return wrong(fmt::format("(inode {}) is no file of whole blocks", number));
  const std::uint64_t count = size >> volume.block_bits();
  if (count > kMostBlocks) return wrong(fmt::format("(inode {}) has {} bytes", number, size));
  std::uint32_t seed = 0;
  if (volume.has_checksums()) {
    std::array<std::uint32_t, 2> owner{number, inode.raw.i_generation};
    seed = crc32c(volume.fs()->csum_seed, owner.data(), sizeof owner);
  }
  OrphanFile file(volume, seed);
  const auto parts = metadata.extents.map(inode, 0, count);
  if (!parts) return wrong(fmt::format("(inode {}) has a damaged map", number));
  for (const Mapping& part : *parts) {
    if (part.kind != Mapping::Kind::kWritten) return wrong(fmt::format("(inode {}) has a hole", number));
    for (std::uint64_t i = 0; i < part.count; ++i) file.blocks_.push_back(part.physical + i);
  }
  for (std::size_t i = 0; i < file.blocks(); ++i) {
    if (const auto block = file.read(i); !block) return std::unexpected(block.error());
  }
  return file;
}

std::uint32_t OrphanFile::checksum(std::uint64_t block, std::span<const std::byte> bytes) const {
  const std::uint32_t crc = crc32c(seed_, &block, sizeof block);
  return crc32c(crc, bytes.data(), bytes.size());
}

Outcome<std::vector<InodeNumber>> OrphanFile::read(std::size_t index) {
  std::vector<std::byte> bytes(volume_->block_size());
  const std::uint64_t block = blocks_[index];
  if (const auto read = volume_->cache().read(block << volume_->block_bits(), bytes); !read)
    return fail(read.error(), fmt::format("cannot read block {} of the orphan file", block));
  const auto entries = std::span(bytes).first(bytes.size() - kTail);
  std::array<std::uint32_t, 2> tail;
  std::memcpy(tail.data(), bytes.data() + entries.size(), sizeof tail);
  if (tail[0] != kMark)
    return fail(kCorrupted, fmt::format("block {} of the orphan file is none; run: e2fsck DEVICE", block));
  if (volume_->has_checksums() && tail[1] != checksum(block, entries))
    return fail(
        kCorrupted,
        fmt::format("the checksum of block {} of the orphan file is wrong; run: e2fsck DEVICE", block));
  std::vector<InodeNumber> numbers(entries.size() / sizeof(std::uint32_t));
  std::memcpy(numbers.data(), entries.data(), numbers.size() * sizeof(std::uint32_t));
  return numbers;
}

Result<void> OrphanFile::clear(std::size_t index) {
  std::vector<std::byte> bytes(volume_->block_size());
  const std::uint64_t block = blocks_[index];
  const auto entries = std::span(bytes).first(bytes.size() - kTail);
  const std::array<std::uint32_t, 2> tail{kMark, volume_->has_checksums() ? checksum(block, entries) : 0};
  std::memcpy(bytes.data() + entries.size(), tail.data(), sizeof tail);
  return volume_->journal().write(block, 0, bytes, 0);
}

}  // namespace fuse4fs::ext4
