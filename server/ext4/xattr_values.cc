// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/xattr_values.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <tuple>

#include "server/ext4/crc32c.h"
#include "server/ext4/credits.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

constexpr std::uint32_t kLongestValue = 64 << 10;  // bytes; of a system call

std::uint64_t references(const Inode& inode) {
  return static_cast<std::uint64_t>(inode.raw.i_ctime) << 32 | inode.raw.osd1.linux1.l_i_version;
}

void set_references(Inode& inode, std::uint64_t count) {
  inode.raw.i_ctime = static_cast<std::uint32_t>(count >> 32);
  inode.raw.i_ctime_extra = 0;
  inode.raw.osd1.linux1.l_i_version = static_cast<std::uint32_t>(count);
  inode.raw.i_version_hi = 0;
}

}  // namespace

std::uint32_t XattrValues::checksum_of(std::span<const std::byte> value) {
  return crc32c(volume_.fs()->csum_seed, value.data(), value.size());
}

bool XattrValues::is_lustre(const Inode& owner, const XattrEntry& entry, const Inode& inode) {
  return entry.hash != inode.raw.i_atime && inode.raw.i_mtime == owner.number &&
         inode.raw.i_generation == owner.raw.i_generation;
}

Result<Inode> XattrValues::open(const Inode& owner, InodeNumber number) {
  const auto wrong = [&](std::string_view words) { return fail(volume_.corrupted(owner.number, 0, words)); };
  const auto& super = volume_.super();
  if (number < EXT2_FIRST_INODE(&super) || number > super.s_inodes_count || number == owner.number)
    return wrong("an extended attribute in an inode that cannot hold one");
  Inode inode;
  inode.number = number;
  RETURN_IF_ERROR(volume_.read_inode(number, inode.bytes(), "reading an extended attribute"));
  if (EXT2_INODE_SIZE(&super) <= EXT2_GOOD_OLD_INODE_SIZE) inode.raw.i_extra_isize = 0;
  if (!inode.has(EXT4_EA_INODE_FL) || !inode.is_regular() || inode.has(EXT4_INLINE_DATA_FL) ||
      inode.raw.i_links_count == 0 || inode.xattr_block() != 0 || !inodes_.in_use(number))
    return wrong("an extended attribute in an inode that is not for that");
  return inode;
}

Result<std::vector<std::byte>> XattrValues::content(const Inode& inode) {
  std::vector<std::byte> value(static_cast<std::size_t>(inode.size()));
  const std::uint64_t count = volume_.blocks_for(value.size());
  ASSIGN_OR_RETURN(const auto parts, extents_.map(inode, 0, count));
  std::size_t done = 0;
  for (const Mapping& part : parts) {
    if (part.kind != Mapping::Kind::kWritten) break;
    const auto length = static_cast<std::size_t>(
        std::min<std::uint64_t>(part.count << volume_.block_bits(), value.size() - done));
    if (const auto got = volume_.cache().read(part.physical << volume_.block_bits(),
                                              std::span(value).subspan(done, length));
        !got)
      return fail(volume_.failed(got.error().value(), inode.number, "reading an extended attribute"));
    done += length;
  }
  if (done != value.size())
    return fail(volume_.corrupted(inode.number, 0, "an extended attribute with holes in its value"));
  return value;
}

Result<std::vector<std::byte>> XattrValues::read(const Inode& owner, const XattrEntry& entry) {
  if (entry.value_size > kLongestValue) return fail(E2BIG);
  const std::shared_lock lock(mutex_of(entry.value_inode));
  ASSIGN_OR_RETURN(const Inode inode, open(owner, entry.value_inode));
  if (inode.size() != entry.value_size)
    return fail(volume_.corrupted(owner.number, 0, "an extended attribute of another size than its inode"));
  ASSIGN_OR_RETURN(auto value, content(inode));
  if (is_lustre(owner, entry, inode)) return value;
  const std::uint32_t checksum = checksum_of(value);
  // The name's part of an old entry's hash may have been made with signed characters: not judged.
  if (checksum != inode.raw.i_atime)
    return fail(volume_.corrupted(owner.number, 0, "an extended attribute's value has another checksum"));
  known_.add(checksum, inode.number);
  return value;
}

Result<XattrValues::Stored> XattrValues::store(const Inode& owner, std::span<const std::byte> value) {
  const std::uint32_t checksum = checksum_of(value);
  for (const InodeNumber known : known_.find(checksum)) {
    ASSIGN_OR_RETURN(Inode inode, open(owner, known));
    if (inode.size() != value.size() || inode.raw.i_atime != checksum) continue;
    ASSIGN_OR_RETURN(const auto there, content(inode));
    if (!std::ranges::equal(there, value)) continue;
    RETURN_IF_ERROR(count(inode, +1));
    return Stored{inode.number, checksum};
  }
  return create(owner, value, checksum);
}

Result<XattrValues::Stored> XattrValues::create(const Inode& owner, std::span<const std::byte> value,
                                                std::uint32_t checksum) {
  ensure_credits(value.size());
  ASSIGN_OR_RETURN(const InodeNumber number, inodes_.take(owner.number, S_IFREG));
  Inode inode;
  inode.number = number;
  inode.raw.i_mode = S_IFREG | 0600;
  inode.raw.i_links_count = 1;
  inode.raw.i_flags = EXT4_EA_INODE_FL;
  inode.raw.i_generation = ~owner.raw.i_generation;  // the same would be half of Lustre's mark
  inode.set_owner(owner.uid(), owner.gid());
  inode.raw.i_extra_isize = extra_size_of_new_inodes(*volume_.super_pointer());
  const Timestamp time = now();
  inode.set_created(time);
  inode.set_modified(time);
  inode.raw.i_atime = checksum;
  set_references(inode, 1);
  extents_.initialise(inode);
  if (const auto done = begin(inode, value); !done) {
    (void)remove(inode);
    return fail(done.error());
  }
  known_.add(checksum, number);
  return Stored{number, checksum};
}

Result<void> XattrValues::begin(Inode& inode, std::span<const std::byte> value) {
  const std::lock_guard lock(mutex_of(inode.number));
  RETURN_IF_ERROR(volume_.write_new_inode(inode));
  return fill(inode, value);
}

Result<void> XattrValues::fill(Inode& inode, std::span<const std::byte> value) {
  const std::uint64_t cluster = volume_.cluster_blocks();
  const std::uint64_t blocks = volume_.blocks_for(value.size());
  std::vector<std::byte> block(volume_.block_size());
  for (std::uint64_t logical = 0; logical < blocks;) {
    ASSIGN_OR_RETURN(const BlockRun run,
                     blocks_.take(inode, extents_.goal_for(inode, logical), blocks - logical));
    const std::uint64_t count = std::min(run.count, blocks - logical);
    Result<void> done;
    for (std::uint64_t i = 0; done && i < count; ++i) {
      const auto rest = value.subspan((logical + i) << volume_.block_bits());
      const std::size_t length = std::min(rest.size(), block.size());
      std::ranges::copy(rest.first(length), block.begin());
      std::fill(block.begin() + static_cast<std::ptrdiff_t>(length), block.end(), std::byte{0});
      done = volume_.journal().write(run.first + i, 0, block, inode.number);
    }
    if (done) done = extents_.insert(inode, logical, run.first, count);
    if (!done) {
      (void)blocks_.give_back(run, inode.number);
      return done;
    }
    RETURN_IF_ERROR(extents_.add_blocks(inode, run.count / cluster));
    logical += count;
  }
  inode.set_size(value.size());
  return write(inode);
}

Result<void> XattrValues::write(Inode& inode) { return volume_.write_inode(inode); }

Result<void> XattrValues::count(Inode& inode, int change) {
  const std::uint64_t now = references(inode);
  if (now == 0 || now > UINT64_MAX / 2)
    return fail(volume_.corrupted(inode.number, 0, "an extended attribute's value that nobody refers to"));
  const std::uint64_t then = change > 0 ? now + 1 : now - 1;
  ensure_credits(then == 0 ? inode.size() : 0);
  if (then == 0) return remove(inode);
  set_references(inode, then);
  return write(inode);
}

// An inode may have any number of values. That of a longer operation is left to it.
void XattrValues::ensure_credits(std::size_t bytes) {
  std::ignore = volume_.journal().ensure(
      {.blocks = credits::of_map.blocks + credits::of_value_inode(bytes, volume_.block_size()).blocks});
}

std::uint64_t XattrValues::clusters(const Inode& owner, const XattrEntry& entry) {
  if (entry.value_inode == 0) return 0;
  // Lustre's are paid for by themselves.
  const auto inode = open(owner, entry.value_inode);
  if (inode && is_lustre(owner, entry, *inode)) return 0;
  const std::uint64_t cluster = std::uint64_t{volume_.cluster_blocks()} << volume_.block_bits();
  return (entry.value_size + cluster - 1) / cluster;
}

Result<void> XattrValues::add_reference(const Inode& owner, const XattrEntry& entry) {
  ASSIGN_OR_RETURN(Inode inode, open(owner, entry.value_inode));
  if (is_lustre(owner, entry, inode)) set_references(inode, 1);
  return count(inode, +1);
}

Result<void> XattrValues::drop_reference(const Inode& owner, const XattrEntry& entry) {
  ASSIGN_OR_RETURN(Inode inode, open(owner, entry.value_inode));
  if (is_lustre(owner, entry, inode)) set_references(inode, 1);
  return count(inode, -1);
}

Result<void> XattrValues::remove(Inode& inode) {
  const std::lock_guard lock(mutex_of(inode.number));
  // With the lock held: a reader may be adding it.
  known_.forget(inode.number);
  // What of it cannot be freed is lost until e2fsck finds it; the rest goes all the same.
  Result<void> outcome = extents_.check(inode);
  if (outcome) outcome = extents_.truncate(inode, 0);
  set_references(inode, 0);
  inode.raw.i_links_count = 0;
  inode.raw.i_dtime = static_cast<std::uint32_t>(now().seconds);
  inode.set_size(0);
  RETURN_IF_ERROR(write(inode));
  if (auto freed = inodes_.give_back(inode.number, inode.mode()); !freed) outcome = freed;
  return outcome;
}

}  // namespace fuse4fs::ext4
