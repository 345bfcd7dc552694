// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/ext4/file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "server/ext4/credits.h"
#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {
namespace {

// What the inode's own flags allow.
Result<void> may_change(const Inode& inode, const AttributeChanges& changes) {
  if (!inode.has(EXT2_IMMUTABLE_FL | EXT2_APPEND_FL)) return {};
  using Times = AttributeChanges::Times;
  if (changes.permissions || changes.uid || changes.gid || changes.size) return fail(EPERM);
  if (changes.times == Times::kWrittenBack) return {};
  if (changes.times == Times::kNow) {
    if (inode.has(EXT2_IMMUTABLE_FL)) return fail(EPERM);
    return {};
  }
  // A late ctime of a change that was allowed brings along the mtime that is there already.
  const bool same_mtime = changes.modified && changes.modified->seconds == inode.modified().seconds &&
                          changes.modified->nanoseconds == inode.modified().nanoseconds;
  if (changes.accessed || (changes.modified && !same_mtime)) return fail(EPERM);
  return {};
}

}  // namespace

Outcome<std::unique_ptr<FileSystem>> FileSystem::mount(cache::BlockDevice device, const MountOptions& options,
                                                       Events& events) {
  // How much is kept in memory until a volume serves depends on numbers that it gives. Whatever was not done
  // by then the next mount does.
  try {
    ASSIGN_OR_RETURN(auto volume, Volume::open(std::move(device), options, events));
    return std::make_unique<Ext4FileSystem>(std::move(volume), options);
  } catch (const std::bad_alloc&) {
    return fail(
        Errno(ENOMEM),
        "the volume's groups, journal or orphans need more memory than the server may have; run: e2fsck "
        "DEVICE");
  }
}

Attributes attributes_of(Volume& volume, const Inode& inode) {
  Attributes attributes;
  attributes.inode = inode.number;
  attributes.generation = inode.raw.i_generation;
  attributes.mode = inode.mode();
  attributes.links = inode.raw.i_links_count;
  attributes.uid = inode.uid();
  attributes.gid = inode.gid();
  attributes.device = inode.device();
  attributes.size = inode.size();
  attributes.sectors = inode.sectors(volume.super(), volume.block_size());
  // As the kernel's ext4: a file inside its inode is no hole, whatever programs conclude from the number.
  if (inode.is_regular() && inode.has(EXT4_INLINE_DATA_FL)) attributes.sectors += (inode.size() + 511) / 512;
  attributes.accessed = inode.accessed();
  attributes.modified = inode.modified();
  attributes.changed = inode.changed();
  attributes.created = inode.created();
  attributes.flags = inode.raw.i_flags;
  return attributes;
}

// Blocks that nobody has asked for are no part of what a file takes.
Attributes Ext4FileSystem::shown(const Inode& inode) {
  Attributes attributes = attributes_of(*volume_, inode);
  if (inode.is_regular() && mapped_.is_used())
    attributes.sectors -= mapped_.preallocation().unused_sectors(inode);
  return attributes;
}

Result<Attributes> Ext4FileSystem::attributes(InodeNumber number) {
  RETURN_IF_ERROR(volume_->check_alive());
  const auto held = metadata_.inodes.lock_shared(number);
  ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read(held));
  return shown(inode);
}

Result<Attributes> Ext4FileSystem::set_attributes_unsynced(InodeNumber number,
                                                           const AttributeChanges& changes) {
  std::optional<RangeClaims::Claim> claim;
  if (changes.size) {
    RETURN_IF_ERROR(volume_->check_writable());
    RETURN_IF_ERROR(mapped_.show_size(number));
    auto claimed = data_.claim_for_size(number, *changes.size);
    if (!claimed) return fail(claimed.error());
    claim.emplace(*std::move(claimed));
    RETURN_IF_ERROR(clear_tail(number, changes));
  }
  const auto held = metadata_.inodes.lock(number);
  RETURN_IF_ERROR(volume_->check_writable());
  ASSIGN_OR_RETURN(Inode inode,
                   changes.size ? metadata_.inodes.read_for_change(held) : metadata_.inodes.read(held));
  RETURN_IF_ERROR(may_change(inode, changes));
  const auto handle = volume_->journal().start(changes.size ? credits::of_map : credits::of_attributes);
  if (changes.size) {
    const std::uint64_t before = inode.size();
    RETURN_IF_ERROR(data_.resize(inode, *changes.size));
    mapped_.note_resized(number, before, *changes.size);
  }
  if (changes.privileges == AttributeChanges::Privileges::kClear) {
    inode.clear_privileges();
    RETURN_IF_ERROR(metadata_.xattrs.remove(inode, kCapabilityXattr));
  }
  if (changes.permissions) RETURN_IF_ERROR(metadata_.acls.change_mode(inode, *changes.permissions));
  RETURN_IF_ERROR(change(inode, changes));
  RETURN_IF_ERROR(metadata_.inodes.write(inode));
  return shown(inode);
}

// Before the size is set: I/O of data, so under the claim alone.
Result<void> Ext4FileSystem::clear_tail(InodeNumber number, const AttributeChanges& changes) {
  FileData::Tail tail;
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(const Inode inode, metadata_.inodes.read_for_change(held));
    RETURN_IF_ERROR(may_change(inode, changes));
    if (*changes.size > INT64_MAX) return fail(EFBIG);
    ASSIGN_OR_RETURN(tail, data_.tail_for_size(inode, *changes.size));
  }
  return data_.clear(tail);
}

Result<void> Ext4FileSystem::change(Inode& inode, const AttributeChanges& changes) {
  constexpr mode_t kPermissions = 07777;
  if (changes.permissions)
    inode.raw.i_mode =
        static_cast<std::uint16_t>((inode.mode() & ~kPermissions) | (*changes.permissions & kPermissions));
  if (changes.uid || changes.gid)
    inode.set_owner(changes.uid.value_or(inode.uid()), changes.gid.value_or(inode.gid()));
  if (changes.size) {
    inode.touch();
  } else {
    inode.touch_changed();
  }
  if (changes.accessed) inode.set_accessed(*changes.accessed);
  if (changes.modified) inode.set_modified(*changes.modified);
  if (changes.changed) inode.set_changed(*changes.changed);
  return {};
}

Result<std::string> Ext4FileSystem::symlink_target(InodeNumber number) {
  Inode inode;
  std::vector<std::byte> bytes;
  {
    const auto held = metadata_.inodes.lock_shared(number);
    RETURN_IF_ERROR(volume_->check_alive());
    ASSIGN_OR_RETURN(inode, metadata_.inodes.read(held));
    if (!inode.is_symlink()) return fail(EINVAL);
    if (inode.has(EXT4_INLINE_DATA_FL)) {
      ASSIGN_OR_RETURN(bytes, metadata_.inline_data.read(inode));
    } else if (!inode.has_blocks_map()) {
      const auto raw = std::as_bytes(std::span(inode.raw.i_block));
      bytes.assign(raw.begin(), raw.end());
    } else {
      ASSIGN_OR_RETURN(const auto parts, metadata_.extents.map(inode, 0, 1));
      if (parts.empty() || parts[0].kind != Mapping::Kind::kWritten)
        return fail(volume_->corrupted(number, 0, "a symbolic link without its block"));
      bytes.resize(volume_->block_size());
      RETURN_IF_ERROR(volume_->cache().read(parts[0].physical << volume_->block_bits(), bytes));
    }
  }
  const auto size = static_cast<std::size_t>(inode.size());
  if (size > bytes.size()) return fail(volume_->corrupted(number, 0, "a symbolic link longer than its room"));
  std::string target(reinterpret_cast<const char*>(bytes.data()), size);
  if (target.find('\0') != std::string::npos)
    return fail(volume_->corrupted(number, 0, "a symbolic link with a NUL in its target"));
  access_times_.touch(metadata_, inode, AccessTime::kUpdate);
  return target;
}

Result<void> Ext4FileSystem::read_directory(InodeNumber number, std::uint64_t cookie,
                                            const DirectorySink& sink, AccessTime access_time) {
  Inode inode;
  Result<void> outcome;
  {
    const auto held = metadata_.inodes.lock_shared(number);
    ASSIGN_OR_RETURN(inode, directory(held));
    // One that is removed and still open is empty.
    if (inode.raw.i_links_count != 0) outcome = metadata_.directories.list(inode, cookie, sink);
  }
  access_times_.touch(metadata_, inode, access_time);
  return outcome;
}

Result<std::size_t> Ext4FileSystem::read(InodeNumber inode, std::uint64_t offset, std::span<std::byte> into,
                                         AccessTime access_time) {
  return data_.read(inode, offset, into, access_time);
}

std::uint32_t Ext4FileSystem::time_granularity() const {
  constexpr std::uint32_t kSecond = 1'000'000'000;
  return EXT2_INODE_SIZE(&volume_->super()) > EXT2_GOOD_OLD_INODE_SIZE ? 1 : kSecond;
}

Result<std::uint64_t> Ext4FileSystem::seek(InodeNumber inode, std::uint64_t offset, SeekTarget target) {
  return data_.seek(inode, offset, target);
}

Result<VolumeStatistics> Ext4FileSystem::statistics() {
  RETURN_IF_ERROR(volume_->check_alive());
  auto* const super = volume_->super_pointer();
  VolumeStatistics statistics;
  statistics.block_size = volume_->block_size();
  statistics.blocks = volume_->blocks() - std::min(volume_->overhead(), volume_->blocks());
  statistics.free_blocks = metadata_.blocks.free_blocks();
  const std::uint64_t reserved = ext2fs_r_blocks_count(super) + metadata_.blocks.kept_blocks();
  statistics.available_blocks = statistics.free_blocks > reserved ? statistics.free_blocks - reserved : 0;
  statistics.inodes = super->s_inodes_count;
  statistics.free_inodes = volume_->groups().free_inodes();
  std::uint64_t halves[2];
  std::memcpy(halves, super->s_uuid, sizeof halves);
  statistics.id = halves[0] ^ halves[1];
  return statistics;
}

void Ext4FileSystem::forget(InodeNumber inode, std::uint64_t count) {
  // Nobody waits for an answer; what went wrong was told to Events.
  (void)metadata_.inodes.forget(inode, count);
  const OwnChanges::Turn turn(volume_->own_changes());
  if (turn.is_allowed()) mapped_.note_forgotten(inode);
}

// What is changed of an inode is right on the medium only in the order of a whole write-back: there is none
// of a part. But often nothing is, or nothing that was asked for.
Result<void> Ext4FileSystem::sync_inode(InodeNumber inode, SyncWhat what) {
  RETURN_IF_ERROR(volume_->check_alive());
  const auto settled = mapped_.settle(inode);
  const auto wanted = what == SyncWhat::kAll ? journal::Changed::kTimes : journal::Changed::kMore;
  if (!volume_->journal().last_changes().are_written(inode, wanted)) RETURN_IF_ERROR(volume_->write_back());
  RETURN_IF_ERROR(flush_device());
  RETURN_IF_ERROR(volume_->check_alive());
  return settled;
}

Result<void> Ext4FileSystem::sync() {
  RETURN_IF_ERROR(sync_volume());
  return mapped_.any_error();
}

Result<void> Ext4FileSystem::sync_volume() {
  RETURN_IF_ERROR(volume_->check_alive());
  const auto settled = mapped_.settle_all();
  RETURN_IF_ERROR(volume_->write_back());
  RETURN_IF_ERROR(flush_device());
  return settled;
}

Result<void> Ext4FileSystem::flush_device() {
  if (const auto flushed = volume_->flush_device(); !flushed)
    return fail(volume_->write_failed("the device could not be flushed", flushed.error()));
  if (volume_->has_lost_writes()) return fail(EIO);
  return {};
}

Result<void> Ext4FileSystem::write_back() {
  const OwnChanges::Turn turn(volume_->own_changes());
  if (!turn.is_allowed()) return {};
  volume_->reservations().age();
  mapped_.preallocation().age();
  return volume_->write_back();
}

Result<void> Ext4FileSystem::freeze() {
  RETURN_IF_ERROR(volume_->check_alive());
  volume_->own_changes().stop();
  Result<void> outcome = mapped_.settle_all();
  if (outcome)
    outcome =
        volume_->freeze(metadata_.inodes.has_orphans() ? Volume::Unlinked::kSome : Volume::Unlinked::kNone);
  if (!outcome) go_on();
  return outcome;
}

// As ext4 whatever comes: after an error the kernel would leave everybody waiting. It was told to Events, and
// the next write-back tries again.
Result<void> Ext4FileSystem::thaw() {
  (void)volume_->thaw();
  go_on();
  return {};
}

void Ext4FileSystem::go_on() {
  volume_->own_changes().go_on();
  // What goes wrong was told to Events.
  (void)metadata_.inodes.delete_deferred();
}

void Ext4FileSystem::set_mapping_cache(MappingCache& cache) {
  data_.leave_data_to_caller();
  // Times of files are the caller's as well.
  set_stamp_clock(StampClock::kCoarse);
  mapped_.set_cache(cache);
}

Result<void> Ext4FileSystem::finish(InodeNumber inode, const FinishedOperation& operation) {
  return mapped_.finish(inode, operation);
}

bool Ext4FileSystem::initialise_inode_table() {
  const OwnChanges::Turn turn(volume_->own_changes());
  if (!turn.is_allowed()) return true;
  const auto more = initialiser_.next();
  if (more) return *more;
  volume_->tell(fmt::format("the unused parts of inode tables are not initialised any more: {}",
                            more.error().message()));
  return false;
}

Result<void> Ext4FileSystem::unmount() {
  // Before the last writes, which may be many. What it finds is told, and write_out() fails.
  (void)volume_->check_claim();
  // If it is frozen nobody will thaw it any more. It is not called clean while it is changed.
  if (volume_->own_changes().are_stopped()) (void)volume_->thaw();
  volume_->own_changes().go_on();
  Result<void> outcome;
  if (volume_->check_writable()) {
    const auto settled = mapped_.settle_all();
    mapped_.preallocation().give_back_all();
    outcome = metadata_.inodes.delete_orphans();
    if (!settled) outcome = settled;
  }
  // What could not be deleted is e2fsck's to find: it looks only where the volume is not called clean.
  const auto written = outcome ? volume_->mark_clean() : volume_->write_out();
  if (!written) outcome = written;
  volume_->close();
  return outcome;
}

}  // namespace fuse4fs::ext4
