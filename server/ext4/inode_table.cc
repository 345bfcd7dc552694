// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/inode_table.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "server/ext4/credits.h"
#include "server/ext4/errors.h"

namespace fuse4fs::ext4 {
namespace {

// What a new inode takes over from its directory, and what of it makes sense for its type: as ext4.
constexpr std::uint32_t kInherited = EXT2_SECRM_FL | EXT2_UNRM_FL | EXT2_COMPR_FL | EXT2_SYNC_FL |
                                     EXT2_NODUMP_FL | EXT2_NOATIME_FL | EXT2_NOCOMPR_FL |
                                     EXT3_JOURNAL_DATA_FL | EXT2_NOTAIL_FL | EXT2_DIRSYNC_FL |
                                     EXT4_PROJINHERIT_FL | EXT4_CASEFOLD_FL | FS_DAX_FL;
constexpr std::uint32_t kForFiles =
    ~(EXT2_DIRSYNC_FL | EXT2_TOPDIR_FL | EXT4_CASEFOLD_FL | EXT4_PROJINHERIT_FL);
constexpr std::uint32_t kForOthers = EXT2_NODUMP_FL | EXT2_NOATIME_FL;

std::uint32_t inherited_flags(const Inode& parent, mode_t mode) {
  const std::uint32_t flags = parent.raw.i_flags & kInherited;
  if (S_ISDIR(mode)) return flags;
  return flags & (S_ISREG(mode) ? kForFiles : kForOthers);
}

bool has_known_type(mode_t mode) {
  return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
         S_ISFIFO(mode) || S_ISSOCK(mode);
}

}  // namespace

bool InodeTable::may_be_a_file(std::uint64_t number) const {
  const auto& super = volume_.super();
  if (number == kRootInode) return true;
  if (number < EXT2_FIRST_INODE(&super) || number > super.s_inodes_count) return false;
  // The volume's own files may have been given any number.
  const bool orphan_file = ext2fs_has_feature_orphan_file(volume_.super_pointer()) != 0;
  const bool journal = ext2fs_has_feature_journal(volume_.super_pointer()) != 0;
  return !(journal && number == super.s_journal_inum) &&
         !(orphan_file && number == super.s_orphan_file_inum) && number != super.s_usr_quota_inum &&
         number != super.s_grp_quota_inum && number != super.s_prj_quota_inum;
}

// No part of a table that was never used.
void InodeTable::read_ahead(InodeNumber number) {
  constexpr std::uint64_t kPiece = InodeReadAhead::kPiece;
  const auto& super = volume_.super();
  const auto& groups = volume_.groups();
  const GroupNumber group = (number - 1) / super.s_inodes_per_group;
  if (group >= groups.count()) return;
  const std::uint64_t table = groups.inode_table(group);
  const std::uint64_t in_a_block = EXT2_INODES_PER_BLOCK(&super);
  const std::uint64_t wanted = (number - 1) % super.s_inodes_per_group / in_a_block;
  if (volume_.cache().has(table + wanted) || !read_ahead_.missed(table + wanted)) return;
  const std::uint64_t used = super.s_inodes_per_group - groups.unused_inodes(group);
  // Pieces lie where their numbers say, whatever the table begins with.
  const std::uint64_t piece = (table + wanted) / kPiece * kPiece;
  const std::uint64_t first = std::max(piece, table);
  const std::uint64_t end = std::min(table + (used + in_a_block - 1) / in_a_block, piece + kPiece);
  if (end > first + 1) volume_.cache().read_ahead(first, end - first);
}

Result<Inode> InodeTable::read_raw(InodeNumber number) {
  Inode inode;
  inode.number = number;
  read_ahead(number);
  RETURN_IF_ERROR(volume_.read_inode(number, inode.bytes()));
  if (EXT2_INODE_SIZE(&volume_.super()) <= EXT2_GOOD_OLD_INODE_SIZE) inode.raw.i_extra_isize = 0;
  volume_.note_flags(inode.raw.i_flags);
  return inode;
}

Result<Inode> InodeTable::read(const Held& held) {
  const InodeNumber number = held.number();
  if (!may_be_a_file(number))
    return fail(volume_.corrupted(number, 0, "an inode number that no file can have"));
  ASSIGN_OR_RETURN(Inode inode, read_raw(number));
  RETURN_IF_ERROR(judge(held, inode));
  return inode;
}

Result<Inode> InodeTable::read_from_handle(const Held& held) {
  const InodeNumber number = held.number();
  if (!may_be_a_file(number) || !inodes_.in_use(number)) return fail(ESTALE);
  ASSIGN_OR_RETURN(Inode inode, read_raw(number));
  if (inode.raw.i_links_count == 0 && !held.is_unlinked()) return fail(ESTALE);
  // Large values of extended attributes.
  if (inode.has(EXT4_EA_INODE_FL)) return fail(ESTALE);
  RETURN_IF_ERROR(judge(held, inode));
  return inode;
}

Result<void> InodeTable::judge(const Held& held, const Inode& inode) {
  const auto& raw = inode.raw;
  const auto wrong = [&](std::string_view words) { return fail(volume_.corrupted(inode.number, 0, words)); };
  if (raw.i_links_count == 0) {
    // Only one that we unlinked ourselves may be asked for.
    if (held.is_unlinked()) return {};
    if (held.has_lookups()) return fail(ESTALE);
    return wrong("a deleted inode is still in use");
  }
  if (!has_known_type(inode.mode()))
    return wrong(fmt::format("an inode of no known type ({:o})", inode.mode()));
  if (!inodes_.in_use(inode.number)) return wrong("an inode in use is marked free");
  const unsigned room = EXT2_INODE_SIZE(&volume_.super()) - EXT2_GOOD_OLD_INODE_SIZE;
  if (raw.i_extra_isize > room || raw.i_extra_isize % 4 != 0)
    return wrong(fmt::format("an inode longer than its place ({} bytes)", raw.i_extra_isize));
  constexpr std::uint64_t kLongest = std::uint64_t{1} << 63;
  if (inode.size() >= kLongest) return wrong("an inode of impossible size");
  if (inode.has(EXT4_INLINE_DATA_FL) && (!ext2fs_has_feature_inline_data(volume_.fs()->super) || room == 0))
    return wrong("data inside the inode, on a volume without that");
  if (inode.has(EXT4_EXTENTS_FL) && !ext2fs_has_feature_extents(volume_.fs()->super))
    return wrong("extents, on a volume without them");
  if (inode.is_symlink() && (inode.size() == 0 || inode.size() >= volume_.block_size()))
    return wrong(fmt::format("a symbolic link of {} bytes", inode.size()));
  if (const auto block = inode.xattr_block(); block != 0 && !volume_.may_be_owned(block, 1))
    return fail(volume_.corrupted(inode.number, block, "extended attributes outside of what a file may own"));
  if (inode.has(EXT4_ENCRYPT_FL | EXT4_EA_INODE_FL)) return wrong("an inode that no name may lead to");
  return {};
}

Result<void> InodeTable::write(Inode& inode) { return volume_.write_inode(inode); }

Result<Inode> InodeTable::read_for_change(const Held& held) {
  ASSIGN_OR_RETURN(Inode inode, read(held));
  if (!held.map_checked()) {
    RETURN_IF_ERROR(extents_.check(inode));
    held.set_map_checked(true);
  }
  inode.found_in_use = held.blocks_checked();
  return inode;
}

std::uint32_t InodeTable::draw_generation() {
  auto generations = generations_.lock();
  if (generations->left == 0) {
    auto& drawn = generations->drawn;
    // Up to 256 bytes come whole or not at all. Early in the boot of a machine this may fail; a repeated
    // generation is then all that happens.
    static_assert(sizeof drawn <= 256);
    if (::getrandom(drawn.data(), sizeof drawn, GRND_NONBLOCK) != sizeof drawn)
      return static_cast<std::uint32_t>(now().nanoseconds);
    generations->left = drawn.size();
  }
  return generations->drawn[--generations->left];
}

// A number in whose lock somebody has his hands, who has it from a file handle, is left to him, and another
// one taken: nobody waits for an inode's lock while a handle is open.
Result<InodeTable::Exclusive> InodeTable::take(const Inode& parent, mode_t mode) {
  const auto kind =
      parent.has(EXT2_TOPDIR_FL) ? InodeAllocator::Parent::kTop : InodeAllocator::Parent::kOrdinary;
  std::array<InodeNumber, 16> left{};
  std::size_t count = 0;
  const auto find = [&]() -> Result<Exclusive> {
    while (count < left.size()) {
      ASSIGN_OR_RETURN(const InodeNumber number, inodes_.take(parent.number, mode, kind));
      if (auto lock = live_.try_lock(number)) return *std::move(lock);
      left[count++] = number;
    }
    return fail(EBUSY);
  };
  auto found = find();
  while (count > 0) (void)inodes_.give_back(left[--count], mode);
  return found;
}

Result<InodeTable::Fresh> InodeTable::create(Inode& parent, const NewInode& what) {
  ASSIGN_OR_RETURN(auto lock, take(parent, what.mode));
  const InodeNumber number = lock.number();
  Fresh fresh{std::move(lock), {}};
  Inode& inode = fresh.inode;
  inode.number = number;
  auto& raw = inode.raw;
  raw.i_mode = static_cast<std::uint16_t>(what.mode);
  gid_t gid = what.gid;
  if ((parent.mode() & S_ISGID) != 0) {
    gid = parent.gid();
    if (S_ISDIR(what.mode)) raw.i_mode |= S_ISGID;
  }
  inode.set_owner(what.uid, gid);
  raw.i_links_count = S_ISDIR(what.mode) ? 2 : 1;
  raw.i_flags = inherited_flags(parent, what.mode);
  raw.i_generation = draw_generation();
  const auto& super = volume_.super();
  if (EXT2_INODE_SIZE(&super) > EXT2_GOOD_OLD_INODE_SIZE) {
    raw.i_extra_isize = extra_size_of_new_inodes(*volume_.super_pointer());
    if (parent.has(EXT4_PROJINHERIT_FL) && ext2fs_has_feature_project(volume_.fs()->super))
      raw.i_projid = parent.project(super);
  }
  const Timestamp time = now();
  inode.set_accessed(time);
  inode.set_modified(time);
  inode.set_changed(time);
  inode.set_created(time);
  if (S_ISREG(what.mode) || S_ISDIR(what.mode)) extents_.initialise(inode);
  if (S_ISCHR(what.mode) || S_ISBLK(what.mode)) inode.set_device(what.device);
  // Now, for the checksums of its blocks depend on it.
  if (const auto written = volume_.write_new_inode(inode); !written) {
    (void)inodes_.give_back(number, what.mode);
    return fail(written.error());
  }
  fresh.lock.set_map_checked(true);
  fresh.lock.set_blocks_checked(true);
  const ext2_inode_large written = raw;
  Result<void> done = acls_.inherit(parent, inode, what.umask);
  if (done && std::memcmp(&written, &raw, sizeof raw) != 0) done = write(inode);
  if (!done) {
    discard(fresh);
    return fail(done.error());
  }
  return fresh;
}

void InodeTable::discard(Fresh& fresh) {
  Inode& inode = fresh.inode;
  (void)extents_.truncate(inode, 0);
  (void)xattrs_.release_all(inode);
  inode.raw.i_links_count = 0;
  inode.raw.i_dtime = static_cast<std::uint32_t>(now().seconds);
  (void)write(inode);
  settle(fresh.lock);
  fresh.lock.set_map_checked(false);
  fresh.lock.set_blocks_checked(false);
  (void)inodes_.give_back(inode.number, inode.mode());
}

Result<void> InodeTable::forget(InodeNumber number, std::uint64_t count) {
  // Nobody has it open any more, or it is only a matter of speed.
  volume_.reservations().forget(number);
  if (!live_.forget(number, count)) return {};
  const OwnChanges::Turn turn(volume_.own_changes());
  if (turn.is_allowed()) return delete_forgotten(number);
  deferred_.lock()->push_back(number);
  return {};
}

Result<void> InodeTable::delete_deferred() {
  const OwnChanges::Turn turn(volume_.own_changes());
  // Frozen once more: it will come again.
  if (!turn.is_allowed()) return {};
  Result<void> outcome;
  for (const InodeNumber number : std::exchange(*deferred_.lock(), {}))
    if (auto deleted = delete_forgotten(number); !deleted) outcome = deleted;
  return outcome;
}

// Whoever has it does what others left to it meanwhile.
class InodeTable::LongDeletions {
 public:
  // Whether there was none.
  static bool begin(InodeTable& table, InodeNumber number, std::optional<LongDeletions>& mine) {
    auto waiting = table.long_deletions_.lock();
    if (waiting->busy) {
      waiting->numbers.push_back(number);
      return false;
    }
    waiting->busy = true;
    mine.emplace(table);
    return true;
  }
  explicit LongDeletions(InodeTable& table) : table_(&table) {}
  LongDeletions(const LongDeletions&) = delete;
  LongDeletions& operator=(const LongDeletions&) = delete;
  // Where it fails, what waits is in memory as unlinked until the unmount.
  ~LongDeletions() {
    if (is_over_) return;
    auto waiting = table_->long_deletions_.lock();
    waiting->busy = false;
    waiting->numbers.clear();
  }
  std::optional<InodeNumber> next() {
    auto waiting = table_->long_deletions_.lock();
    if (waiting->numbers.empty()) {
      is_over_ = true;
      waiting->busy = false;
      return std::nullopt;
    }
    const InodeNumber number = waiting->numbers.back();
    waiting->numbers.pop_back();
    return number;
  }

 private:
  InodeTable* table_;
  bool is_over_ = false;
};

// A map with nodes in more than one level below the inode.
bool InodeTable::is_long_work(const Inode& inode) {
  if (!inode.has_blocks_map()) return false;
  if (!inode.has(EXT4_EXTENTS_FL)) return inode.raw.i_block[EXT2_TIND_BLOCK] != 0;
  ext3_extent_header header{};
  std::memcpy(&header, inode.raw.i_block, sizeof header);
  return header.eh_depth > 1;
}

Result<void> InodeTable::delete_forgotten(InodeNumber number) {
  std::optional<LongDeletions> long_ones;
  const auto delete_one = [&](InodeNumber one) -> Result<void> {
    const auto held = live_.lock(one);
    // Somebody else did it meanwhile.
    if (!held.is_unlinked()) return {};
    if (!long_ones) {
      ASSIGN_OR_RETURN(const Inode inode, read(held));
      if (is_long_work(inode) && !LongDeletions::begin(*this, one, long_ones)) return {};
    }
    ASSIGN_OR_RETURN(Inode inode, read_for_change(held));
    // Somebody may have found it by a file handle, or given it a name.
    if (!held.claim_deletion()) return {};
    const auto handle = volume_.journal().start(credits::of_map);
    return remove(held, inode);
  };
  auto outcome = delete_one(number);
  if (!long_ones) return outcome;
  while (const auto next = long_ones->next()) {
    if (const auto deleted = delete_one(*next); !deleted) outcome = deleted;
  }
  return outcome;
}

void InodeTable::wait_for_name(const Exclusive& held) {
  held.unlink();
  held.set_waits_for_name(true);
}

void InodeTable::settle(const Exclusive& held) {
  held.clear_unlinked();
  held.set_waits_for_name(false);
}

Result<void> InodeTable::orphan(const Exclusive& held, Inode& inode) {
  held.unlink();
  if (!held.claim_deletion()) return {};
  if (!held.map_checked()) RETURN_IF_ERROR(extents_.check(inode));
  return remove(held, inode);
}

Result<void> InodeTable::delete_orphans() {
  Result<void> outcome;
  for (const InodeNumber number : live_.unlinked()) {
    if (auto deleted = forget(number, UINT64_MAX); !deleted) outcome = deleted;
  }
  return outcome;
}

Result<void> InodeTable::remove(const Exclusive& held, Inode& inode) {
  held.set_map_checked(false);
  held.set_blocks_checked(false);
  held.set_waits_for_name(false);
  RETURN_IF_ERROR(volume_.check_writable());
  return release(inode, ExtentMap::Handles::kSeveral);
}

Result<void> InodeTable::release(Inode& inode, ExtentMap::Handles handles) {
  volume_.reservations().forget(inode.number);
  // A crash may have come when a symbolic link had lost its size, but not its block. A short target beside
  // the flag is no map.
  if (inode.is_symlink() && inode.size() < sizeof inode.raw.i_block && inode.has(EXT4_EXTENTS_FL) &&
      (inode.raw.i_block[0] & 0xffff) == EXT3_EXT_MAGIC)
    inode.set_size(sizeof inode.raw.i_block);
  // What of it cannot be freed is lost until e2fsck finds it; the rest goes all the same.
  Result<void> outcome = extents_.truncate(inode, 0, handles);
  if (auto released = xattrs_.release_all(inode); !released) outcome = released;
  inode.raw.i_dtime = static_cast<std::uint32_t>(now().seconds);
  if (inode.has_blocks_map()) inode.set_size(0);
  RETURN_IF_ERROR(write(inode));
  if (auto freed = inodes_.give_back(inode.number, inode.mode()); !freed) outcome = freed;
  return outcome;
}

}  // namespace fuse4fs::ext4
