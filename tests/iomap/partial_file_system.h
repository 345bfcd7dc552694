// SPDX-License-Identifier: GPL-2.0-or-later
// A file system that can nothing: ENOSYS. A test's server overrides what it serves.
#pragma once

#include <string>
#include <vector>

#include "server/ext4/file_system.h"

namespace fuse4fs::iomap_model {

class PartialFileSystem : public ext4::FileSystem {
 public:
  using Attributes = ext4::Attributes;
  using InodeNumber = ext4::InodeNumber;

  [[nodiscard]] std::uint32_t block_size() const override { return 4096; }
  [[nodiscard]] cache::Access access() const override { return cache::Access::kReadWrite; }
  [[nodiscard]] bool has_acls() const override { return false; }
  [[nodiscard]] std::string label() const override { return {}; }
  [[nodiscard]] std::uint32_t time_granularity() const override { return 1; }
  void set_content_times(ext4::MountOptions::ContentTimes) override {}
  Result<Attributes> lookup(InodeNumber, std::string_view) override { return fail(ENOSYS); }
  Result<Attributes> look_up_inode(InodeNumber) override { return fail(ENOSYS); }
  Result<Attributes> look_up_handle(std::uint64_t) override { return fail(ENOSYS); }
  void forget(InodeNumber, std::uint64_t) override {}
  Result<Attributes> attributes(InodeNumber) override { return fail(ENOSYS); }
  Result<Attributes> set_attributes(InodeNumber, const ext4::AttributeChanges&) override {
    return fail(ENOSYS);
  }
  Result<Attributes> make(InodeNumber, std::string_view, const ext4::NewInode&) override {
    return fail(ENOSYS);
  }
  Result<Attributes> make_symlink(InodeNumber, std::string_view, std::string_view,
                                  const ext4::NewInode&) override {
    return fail(ENOSYS);
  }
  Result<Attributes> make_temporary(InodeNumber, const ext4::NewInode&) override { return fail(ENOSYS); }
  Result<Attributes> link(InodeNumber, InodeNumber, std::string_view) override { return fail(ENOSYS); }
  Result<void> unlink(InodeNumber, std::string_view) override { return fail(ENOSYS); }
  Result<void> remove_directory(InodeNumber, std::string_view) override { return fail(ENOSYS); }
  Result<void> rename(InodeNumber, std::string_view, InodeNumber, std::string_view,
                      const ext4::RenameOptions&) override {
    return fail(ENOSYS);
  }
  Result<std::string> symlink_target(InodeNumber) override { return fail(ENOSYS); }
  Result<void> read_directory(InodeNumber, std::uint64_t, const ext4::DirectorySink&,
                              ext4::AccessTime) override {
    return fail(ENOSYS);
  }
  Result<std::size_t> read(InodeNumber, std::uint64_t, std::span<std::byte>, ext4::AccessTime) override {
    return fail(ENOSYS);
  }
  Result<ext4::SectorCounts> write(InodeNumber, std::uint64_t, std::span<const std::byte>,
                                   ext4::AttributeChanges::Privileges) override {
    return fail(ENOSYS);
  }
  Result<void> change_range(InodeNumber, ext4::RangeChange, ext4::ByteRange, ext4::EndOfFile,
                            ext4::AttributeChanges::Privileges, std::optional<ext4::Caller>) override {
    return fail(ENOSYS);
  }
  Result<std::uint64_t> seek(InodeNumber, std::uint64_t, ext4::SeekTarget) override { return fail(ENOSYS); }
  Result<std::uint64_t> copy_range(InodeNumber, std::uint64_t, InodeNumber, std::uint64_t, std::uint64_t,
                                   ext4::AttributeChanges::Privileges) override {
    return fail(ENOSYS);
  }
  Result<std::vector<std::byte>> xattr(InodeNumber, std::string_view) override { return fail(ENOSYS); }
  Result<std::string> xattr_names(InodeNumber) override { return fail(ENOSYS); }
  Result<void> set_xattr(InodeNumber, std::string_view, std::span<const std::byte>, ext4::XattrMode,
                         ext4::SetgidBit) override {
    return fail(ENOSYS);
  }
  Result<void> remove_xattr(InodeNumber, std::string_view) override { return fail(ENOSYS); }
  Result<ext4::InodeFlags> flags(InodeNumber) override { return fail(ENOSYS); }
  Result<void> set_flags(InodeNumber, std::uint32_t) override { return fail(ENOSYS); }
  Result<void> set_project(InodeNumber, std::uint32_t) override { return fail(ENOSYS); }
  Result<void> set_label(std::string_view) override { return fail(ENOSYS); }
  Result<std::uint64_t> trim(ext4::ByteRange, std::uint64_t) override { return fail(ENOSYS); }
  Result<void> shut_down(ext4::ShutdownMode) override { return fail(ENOSYS); }
  Result<ext4::VolumeStatistics> statistics() override { return fail(ENOSYS); }
  Result<void> sync_inode(InodeNumber, SyncWhat) override { return fail(ENOSYS); }
  Result<void> sync() override { return {}; }
  Result<void> write_back() override { return {}; }
  bool initialise_inode_table() override { return false; }
  std::size_t shrink() override { return 0; }
  void keep_claim() override {}
  Result<void> freeze() override { return fail(ENOSYS); }
  Result<void> thaw() override { return fail(ENOSYS); }
  Result<void> unmount() override { return {}; }
};

}  // namespace fuse4fs::iomap_model
