// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <gmock/gmock.h>

#include <string>

#include "server/ext4/file_system.h"

namespace fuse4fs::fuse {

class MockFileSystem : public ext4::FileSystem {
 public:
  using AttributesResult = Result<ext4::Attributes>;
  MOCK_METHOD(std::uint32_t, block_size, (), (const, override));
  MOCK_METHOD(cache::Access, access, (), (const, override));
  MOCK_METHOD(bool, has_acls, (), (const, override));
  MOCK_METHOD(std::string, label, (), (const, override));
  MOCK_METHOD(std::uint32_t, time_granularity, (), (const, override));
  MOCK_METHOD(void, set_content_times, (ext4::MountOptions::ContentTimes), (override));
  MOCK_METHOD(AttributesResult, lookup, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(AttributesResult, look_up_inode, (ext4::InodeNumber), (override));
  MOCK_METHOD(void, forget, (ext4::InodeNumber, std::uint64_t), (override));
  MOCK_METHOD(AttributesResult, attributes, (ext4::InodeNumber), (override));
  MOCK_METHOD(AttributesResult, set_attributes, (ext4::InodeNumber, const ext4::AttributeChanges&),
              (override));
  MOCK_METHOD(AttributesResult, make, (ext4::InodeNumber, std::string_view, const ext4::NewInode&),
              (override));
  MOCK_METHOD(AttributesResult, make_symlink,
              (ext4::InodeNumber, std::string_view, std::string_view, const ext4::NewInode&), (override));
  MOCK_METHOD(AttributesResult, look_up_handle, (std::uint64_t), (override));
  MOCK_METHOD(AttributesResult, make_temporary, (ext4::InodeNumber, const ext4::NewInode&), (override));
  MOCK_METHOD(AttributesResult, link, (ext4::InodeNumber, ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<void>, unlink, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<void>, remove_directory, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<void>, rename,
              (ext4::InodeNumber, std::string_view, ext4::InodeNumber, std::string_view,
               const ext4::RenameOptions&),
              (override));
  MOCK_METHOD(Result<std::string>, symlink_target, (ext4::InodeNumber), (override));
  MOCK_METHOD(Result<void>, read_directory,
              (ext4::InodeNumber, std::uint64_t, const ext4::DirectorySink&, ext4::AccessTime), (override));
  MOCK_METHOD(Result<std::size_t>, read,
              (ext4::InodeNumber, std::uint64_t, std::span<std::byte>, ext4::AccessTime), (override));
  MOCK_METHOD(Result<ext4::SectorCounts>, write,
              (ext4::InodeNumber, std::uint64_t, std::span<const std::byte>,
               ext4::AttributeChanges::Privileges),
              (override));
  MOCK_METHOD(Result<void>, change_range,
              (ext4::InodeNumber, ext4::RangeChange, ext4::ByteRange, ext4::EndOfFile,
               ext4::AttributeChanges::Privileges, std::optional<ext4::Caller>),
              (override));
  MOCK_METHOD(Result<std::uint64_t>, seek, (ext4::InodeNumber, std::uint64_t, ext4::SeekTarget), (override));
  MOCK_METHOD(Result<std::uint64_t>, copy_range,
              (ext4::InodeNumber, std::uint64_t, ext4::InodeNumber, std::uint64_t, std::uint64_t,
               ext4::AttributeChanges::Privileges),
              (override));
  MOCK_METHOD(Result<std::vector<std::byte>>, xattr, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<std::string>, xattr_names, (ext4::InodeNumber), (override));
  MOCK_METHOD(Result<void>, set_xattr,
              (ext4::InodeNumber, std::string_view, std::span<const std::byte>, ext4::XattrMode,
               ext4::SetgidBit),
              (override));
  MOCK_METHOD(Result<void>, remove_xattr, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<ext4::InodeFlags>, flags, (ext4::InodeNumber), (override));
  MOCK_METHOD(Result<void>, set_flags, (ext4::InodeNumber, std::uint32_t), (override));
  MOCK_METHOD(Result<void>, set_project, (ext4::InodeNumber, std::uint32_t), (override));
  MOCK_METHOD(Result<void>, set_label, (std::string_view), (override));
  MOCK_METHOD(Result<std::uint64_t>, trim, (ext4::ByteRange, std::uint64_t), (override));
  MOCK_METHOD(Result<void>, shut_down, (ext4::ShutdownMode), (override));
  MOCK_METHOD(Result<ext4::VolumeStatistics>, statistics, (), (override));
  MOCK_METHOD(Result<void>, sync_inode, (ext4::InodeNumber, SyncWhat), (override));
  MOCK_METHOD(Result<void>, sync, (), (override));
  MOCK_METHOD(Result<void>, write_back, (), (override));
  MOCK_METHOD(bool, initialise_inode_table, (), (override));
  MOCK_METHOD(std::size_t, shrink, (), (override));
  MOCK_METHOD(void, keep_claim, (), (override));
  MOCK_METHOD(Result<void>, freeze, (), (override));
  MOCK_METHOD(Result<void>, thaw, (), (override));
  MOCK_METHOD(ext4::MappingService*, mappings, (), (override));
  MOCK_METHOD(Result<void>, unmount, (), (override));
};

}  // namespace fuse4fs::fuse
