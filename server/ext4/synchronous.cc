// SPDX-License-Identifier: GPL-2.0-or-later
// Ext4FileSystem: changes that are on the medium when they are answered (chattr +S and +D).
//
// The border of each operation that changes something: with no lock held, as sync(2).
#include <cstdint>
#include <optional>
#include <type_traits>

#include "server/ext4/ext4_file_system.h"

namespace fuse4fs::ext4 {

Result<void> Ext4FileSystem::sync_if_asked(Changed changed, std::initializer_list<InodeNumber> inodes) {
  // Most volumes have none: they are not asked once more.
  if (!volume_->has_synchronous_inodes()) return {};
  std::uint32_t flags = EXT2_SYNC_FL;
  if (changed == Changed::kNames) flags |= EXT2_DIRSYNC_FL;
  bool asked = false;
  for (const InodeNumber number : inodes) {
    const auto held = metadata_.inodes.lock_shared(number);
    // Gone by now is no error of what was done.
    const auto inode = metadata_.inodes.read_from_handle(held);
    asked = asked || (inode && inode->has(flags));
  }
  return asked ? sync_volume() : Result<void>();
}

// What was freed lately is not given out before a write-back, and what is being discarded not before that has
// ended: where nothing else is left, that is done now, or waited for.
template <class Operation>
auto Ext4FileSystem::retried(const Operation& operation) {
  constexpr int kTries = 4;
  auto& unreleased = volume_->order().unreleased();
  const std::uint64_t ended = unreleased.discards_ended();
  const std::uint64_t refusals = metadata_.blocks.refusals();
  auto done = operation();
  while (!done && done.error() == kWriteBackFirst) {
    if (const auto written = volume_->write_back(); !written) return decltype(done)(fail(written.error()));
    done = operation();
  }
  const auto found_no_room = [&] { return !done && done.error() == Errno(ENOSPC); };
  if (found_no_room() && metadata_.blocks.refusals() != refusals &&
      mapped_.preallocation().give_back_for_room())
    done = operation();
  std::optional<Unreleased::NoDiscards> no_discards;
  for (int i = 1; i < kTries && found_no_room(); ++i) {
    // Each time: the write-back may have been another's, who discards what it released.
    if (!no_discards && unreleased.discards_begun() > ended)
      no_discards.emplace(unreleased);
    else if (!volume_->has_unreleased() || !volume_->write_back())
      break;
    done = operation();
  }
  if (volume_->wants_write_back()) (void)volume_->write_back();
  return done;
}

template <class Operation>
auto Ext4FileSystem::synced(const Operation& operation, Changed changed,
                            std::initializer_list<InodeNumber> inodes) {
  return synced_result(retried(operation), changed, inodes);
}

template <class T>
Result<T> Ext4FileSystem::synced_result(Result<T> done, Changed changed,
                                        std::initializer_list<InodeNumber> inodes) {
  if (!done) return done;
  if (const auto on_medium = sync_if_asked(changed, inodes); !on_medium) {
    if constexpr (std::is_same_v<T, Attributes>) {
      // The caller gets an error, and will not forget what it did not look up.
      if (changed == Changed::kNames) forget(done->inode, 1);
    }
    return fail(on_medium.error());
  }
  return done;
}

Result<Attributes> Ext4FileSystem::make(InodeNumber parent, std::string_view name, const NewInode& what) {
  return synced([&] { return make_inode(parent, name, what, std::nullopt); }, Changed::kNames, {parent});
}

Result<Attributes> Ext4FileSystem::make_symlink(InodeNumber parent, std::string_view name,
                                                std::string_view target, const NewInode& what) {
  return synced([&] { return make_symlink_unsynced(parent, name, target, what); }, Changed::kNames, {parent});
}

Result<Attributes> Ext4FileSystem::make_temporary(InodeNumber parent, const NewInode& what) {
  return retried([&] { return make_temporary_unsynced(parent, what); });
}

Result<Attributes> Ext4FileSystem::link(InodeNumber inode, InodeNumber new_parent,
                                        std::string_view new_name) {
  return synced([&] { return link_unsynced(inode, new_parent, new_name); }, Changed::kNames, {new_parent});
}

Result<void> Ext4FileSystem::unlink(InodeNumber parent, std::string_view name) {
  return synced([&] { return unlink_unsynced(parent, name); }, Changed::kNames, {parent});
}

Result<void> Ext4FileSystem::remove_directory(InodeNumber parent, std::string_view name) {
  return synced([&] { return remove_directory_unsynced(parent, name); }, Changed::kNames, {parent});
}

Result<void> Ext4FileSystem::rename(InodeNumber old_parent, std::string_view old_name, InodeNumber new_parent,
                                    std::string_view new_name, const RenameOptions& options) {
  return synced([&] { return rename_unsynced(old_parent, old_name, new_parent, new_name, options); },
                Changed::kNames, {old_parent, new_parent});
}

Result<Attributes> Ext4FileSystem::set_attributes(InodeNumber inode, const AttributeChanges& changes) {
  return synced([&] { return set_attributes_unsynced(inode, changes); }, Changed::kInode, {inode});
}

Result<SectorCounts> Ext4FileSystem::write(InodeNumber inode, std::uint64_t offset,
                                           std::span<const std::byte> from,
                                           AttributeChanges::Privileges privileges) {
  return synced([&] { return data_.write(inode, offset, from, privileges); }, Changed::kInode, {inode});
}

Result<void> Ext4FileSystem::change_range(InodeNumber inode, RangeChange change, ByteRange range,
                                          EndOfFile end_of_file, AttributeChanges::Privileges privileges,
                                          std::optional<Caller> caller) {
  RETURN_IF_ERROR(mapped_.show_size(inode));
  mapped_.note_range_change(inode, change, range);
  return synced([&] { return data_.change_range(inode, change, range, end_of_file, privileges, caller); },
                Changed::kInode, {inode});
}

Result<DataMapping> Ext4FileSystem::map(InodeNumber inode, const MappingRequest& request) {
  // Looks only, and has an EAGAIN of its own.
  if (request.allowed == MappingRequest::Allowed::kWrittenOnly) return mapped_.map(inode, request);
  return retried([&] { return mapped_.map(inode, request); });
}

Result<std::uint64_t> Ext4FileSystem::complete_write(InodeNumber inode, const CompletedWrite& write) {
  auto completed = retried([&] { return mapped_.complete_write(inode, write); });
  if (!completed) mapped_.note_failed(inode, write, completed.error());
  return completed;
}

Result<std::uint64_t> Ext4FileSystem::copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                                 std::uint64_t to_offset, std::uint64_t length,
                                                 AttributeChanges::Privileges privileges) {
  return synced([&] { return data_.copy_range(from, from_offset, to, to_offset, length, privileges); },
                Changed::kInode, {to});
}

Result<void> Ext4FileSystem::set_xattr(InodeNumber inode, std::string_view name,
                                       std::span<const std::byte> value, XattrMode mode, SetgidBit setgid) {
  return synced([&] { return set_xattr_unsynced(inode, name, value, mode, setgid); }, Changed::kInode,
                {inode});
}

Result<void> Ext4FileSystem::remove_xattr(InodeNumber inode, std::string_view name) {
  return synced([&] { return remove_xattr_unsynced(inode, name); }, Changed::kInode, {inode});
}

Result<void> Ext4FileSystem::set_flags(InodeNumber inode, std::uint32_t flags) {
  return synced([&] { return set_flags_unsynced(inode, flags); }, Changed::kInode, {inode});
}

Result<void> Ext4FileSystem::set_project(InodeNumber inode, std::uint32_t project) {
  return synced([&] { return set_project_unsynced(inode, project); }, Changed::kInode, {inode});
}

}  // namespace fuse4fs::ext4
