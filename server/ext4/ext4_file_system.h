// SPDX-License-Identifier: GPL-2.0-or-later
// The FileSystem: each method takes the locks of the inodes concerned, begins a handle where it
// changes them, does its work through the classes behind it, and lets go before device I/O of file data.
#pragma once

#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/guarded.h"
#include "server/ext4/access_times.h"
#include "server/ext4/file_data.h"
#include "server/ext4/file_system.h"
#include "server/ext4/inode_table_initialiser.h"
#include "server/ext4/mapped_data.h"
#include "server/ext4/mapping_service.h"
#include "server/ext4/metadata.h"

namespace fuse4fs::ext4 {

class Ext4FileSystem final : public FileSystem, public MappingService {
 public:
  Ext4FileSystem(std::unique_ptr<Volume> volume, const MountOptions& options)
      : volume_(std::move(volume)),
        metadata_(*volume_),
        access_times_(*volume_, options),
        data_(*volume_, metadata_, access_times_, options.content_times),
        mapped_(*volume_, metadata_, data_, options.clock ? options.clock : std::chrono::steady_clock::now) {}

  [[nodiscard]] std::uint32_t block_size() const override { return volume_->block_size(); }
  [[nodiscard]] cache::Access access() const override { return volume_->access(); }
  [[nodiscard]] bool has_acls() const override { return volume_->has_acls(); }
  [[nodiscard]] std::string label() const override;
  [[nodiscard]] std::uint32_t time_granularity() const override;
  void set_content_times(MountOptions::ContentTimes times) override { data_.set_content_times(times); }

  Result<Attributes> lookup(InodeNumber parent, std::string_view name) override;
  Result<Attributes> look_up_inode(InodeNumber inode) override;
  Result<Attributes> look_up_handle(std::uint64_t inode) override;
  void forget(InodeNumber inode, std::uint64_t count) override;
  Result<Attributes> attributes(InodeNumber inode) override;
  Result<Attributes> set_attributes(InodeNumber inode, const AttributeChanges& changes) override;
  Result<Attributes> make(InodeNumber parent, std::string_view name, const NewInode& what) override;
  Result<Attributes> make_symlink(InodeNumber parent, std::string_view name, std::string_view target,
                                  const NewInode& what) override;
  Result<Attributes> make_temporary(InodeNumber parent, const NewInode& what) override;
  Result<Attributes> link(InodeNumber inode, InodeNumber new_parent, std::string_view new_name) override;
  Result<void> unlink(InodeNumber parent, std::string_view name) override;
  Result<void> remove_directory(InodeNumber parent, std::string_view name) override;
  Result<void> rename(InodeNumber old_parent, std::string_view old_name, InodeNumber new_parent,
                      std::string_view new_name, const RenameOptions& options) override;
  Result<std::string> symlink_target(InodeNumber inode) override;
  Result<void> read_directory(InodeNumber inode, std::uint64_t cookie, const DirectorySink& sink,
                              AccessTime access_time) override;
  Result<std::size_t> read(InodeNumber inode, std::uint64_t offset, std::span<std::byte> into,
                           AccessTime access_time) override;
  Result<SectorCounts> write(InodeNumber inode, std::uint64_t offset, std::span<const std::byte> from,
                             AttributeChanges::Privileges privileges) override;
  Result<void> change_range(InodeNumber inode, RangeChange change, ByteRange range, EndOfFile end_of_file,
                            AttributeChanges::Privileges privileges, std::optional<Caller> caller) override;
  Result<std::uint64_t> seek(InodeNumber inode, std::uint64_t offset, SeekTarget target) override;
  Result<std::uint64_t> copy_range(InodeNumber from, std::uint64_t from_offset, InodeNumber to,
                                   std::uint64_t to_offset, std::uint64_t length,
                                   AttributeChanges::Privileges privileges) override;
  Result<std::vector<std::byte>> xattr(InodeNumber inode, std::string_view name) override;
  Result<std::string> xattr_names(InodeNumber inode) override;
  Result<void> set_xattr(InodeNumber inode, std::string_view name, std::span<const std::byte> value,
                         XattrMode mode, SetgidBit setgid) override;
  Result<void> remove_xattr(InodeNumber inode, std::string_view name) override;
  Result<InodeFlags> flags(InodeNumber inode) override;
  Result<void> set_flags(InodeNumber inode, std::uint32_t flags) override;
  Result<void> set_project(InodeNumber inode, std::uint32_t project) override;
  Result<void> set_label(std::string_view label) override;
  Result<std::uint64_t> trim(ByteRange range, std::uint64_t minimum) override;
  Result<void> shut_down(ShutdownMode mode) override;
  Result<VolumeStatistics> statistics() override;
  Result<void> sync_inode(InodeNumber inode, SyncWhat what) override;
  Result<void> sync() override;
  Result<void> write_back() override;
  bool initialise_inode_table() override;
  // Not under the metadata lock: who holds it may be waiting for the device, or for memory.
  std::size_t shrink() override { return volume_->cache().shrink(); }
  void keep_claim() override { volume_->keep_claim(); }
  Result<void> freeze() override;
  Result<void> thaw() override;
  MappingService* mappings() override { return this; }
  Result<void> unmount() override;

  // MappingService.
  [[nodiscard]] MappingLimits mapping_limits() const override { return mapped_.limits(); }
  void set_mapping_cache(MappingCache& cache) override;
  Result<DataMapping> map(InodeNumber inode, const MappingRequest& request) override;
  Result<void> finish(InodeNumber inode, const FinishedOperation& operation) override;
  Result<std::uint64_t> complete_write(InodeNumber inode, const CompletedWrite& write) override;

 private:
  // As callers see them. Under the inode's lock.
  Attributes shown(const Inode& inode);
  Result<void> flush_device();
  // What waited while the volume was frozen.
  void go_on();
  class Trim;  // one run of trim()
  using Held = InodeTable::Held;
  using Exclusive = InodeTable::Exclusive;
  using ExclusiveSet = InodeTable::ExclusiveSet;
  // A name in a directory and, where it is there, what it leads to.
  struct Named {
    Inode parent;
    std::optional<InodeNumber> number;
    std::optional<Inode> child;  // once its lock is held, too
    Directory::Position position;
  };

  // What flags of an inode are asked: +D of a directory speaks of its names alone, +S of all.
  enum class Changed { kNames, kInode };
  // What was done, once it is on the medium if one of the inodes' flags wants it there: synchronous.cc.
  template <class Operation>
  auto synced(const Operation& operation, Changed changed, std::initializer_list<InodeNumber> inodes);
  template <class Operation>
  auto retried(const Operation& operation);
  template <class T>
  Result<T> synced_result(Result<T> done, Changed changed, std::initializer_list<InodeNumber> inodes);
  // All that is known in memory, but for errors of files' data.
  Result<void> sync_volume();
  Result<void> sync_if_asked(Changed changed, std::initializer_list<InodeNumber> inodes);
  // The public ones, but for that.
  Result<Attributes> set_attributes_unsynced(InodeNumber number, const AttributeChanges& changes);
  Result<Attributes> make_symlink_unsynced(InodeNumber parent, std::string_view name, std::string_view target,
                                           const NewInode& what);
  Result<Attributes> make_temporary_unsynced(InodeNumber parent, const NewInode& what);
  Result<Attributes> link_unsynced(InodeNumber number, InodeNumber new_parent, std::string_view new_name);
  Result<void> unlink_unsynced(InodeNumber parent, std::string_view name);
  Result<void> remove_directory_unsynced(InodeNumber parent, std::string_view name);
  Result<void> rename_unsynced(InodeNumber old_parent, std::string_view old_name, InodeNumber new_parent,
                               std::string_view new_name, const RenameOptions& options);
  Result<void> set_xattr_unsynced(InodeNumber number, std::string_view name, std::span<const std::byte> value,
                                  XattrMode mode, SetgidBit setgid);
  Result<void> remove_xattr_unsynced(InodeNumber number, std::string_view name);
  Result<void> set_flags_unsynced(InodeNumber number, std::uint32_t wanted);
  Result<void> set_project_unsynced(InodeNumber number, std::uint32_t project);

  Result<Inode> directory(const Held& held);
  // Where a look-up did not find what the name led to: whether it is a name's fault.
  Result<Attributes> look_up_again(InodeNumber parent, std::string_view name, InodeNumber child);
  Result<InodeNumber> number_of(const Inode& directory, std::string_view name);
  // For a change of this name: the directory may be changed.
  Result<Named> find_name(const Exclusive& parent, std::string_view name);
  // Adds what it leads to, whose lock is held.
  Result<void> read_child(const ExclusiveSet& locks, Named& name);
  // Both at once, with the locks of the directory and of what the name leads to.
  Result<Named> lock_name(ExclusiveSet& locks, InodeNumber parent, std::string_view name);
  Result<Attributes> make_inode(InodeNumber parent, std::string_view name, const NewInode& what,
                                std::optional<std::string_view> target);
  Result<void> set_target(Inode& inode, std::string_view target);
  Result<void> drop_link(const Exclusive& held, Inode& inode);
  Result<void> drop_directory(const Exclusive& held, Inode& child);
  // Takes back an inode that was made a moment ago and has no name.
  void discard(InodeTable::Fresh& fresh);
  struct Rename;  // one of them: rename.cc
  Result<void> move_name(const ExclusiveSet& locks, Rename& names);
  Result<void> exchange_names(Rename& names);
  Result<void> may_rename(const Rename& names) const;
  // Of a directory and all that it lies in: whether `ancestor` is among them, or one that moved to another
  // directory since the last write-back began.
  struct Ancestry {
    bool has_it = false, has_moved = false;
  };
  Result<Ancestry> look_above(InodeNumber directory, InodeNumber ancestor);
  Result<void> may_link_more(const Inode& directory) const;
  void count_subdirectory(Inode& directory, int change) const;
  Result<void> clear_tail(InodeNumber number, const AttributeChanges& changes);
  Result<void> change(Inode& inode, const AttributeChanges& changes);

  std::unique_ptr<Volume> volume_;
  Metadata metadata_;
  InodeTableInitialiser initialiser_{*volume_};
  const AccessTimePolicy access_times_;
  FileData data_;
  MappedData mapped_;
  // Of renames between two directories there is one at a time: what lies inside of what stays as it is.
  RankedMutex<std::mutex, LockRank::kRename> rename_;
};

}  // namespace fuse4fs::ext4
