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
  MOCK_METHOD(std::string, label, (), (const, override));
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
  MOCK_METHOD(AttributesResult, link, (ext4::InodeNumber, ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<void>, unlink, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<void>, remove_directory, (ext4::InodeNumber, std::string_view), (override));
  MOCK_METHOD(Result<void>, rename,
              (ext4::InodeNumber, std::string_view, ext4::InodeNumber, std::string_view, ext4::RenameMode),
              (override));
  MOCK_METHOD(Result<std::string>, symlink_target, (ext4::InodeNumber), (override));
  MOCK_METHOD(Result<void>, read_directory, (ext4::InodeNumber, std::uint64_t, const ext4::DirectorySink&),
              (override));
  MOCK_METHOD(Result<std::size_t>, read, (ext4::InodeNumber, std::uint64_t, std::span<std::byte>),
              (override));
  MOCK_METHOD(Result<void>, write,
              (ext4::InodeNumber, std::uint64_t, std::span<const std::byte>,
               ext4::AttributeChanges::Privileges),
              (override));
  MOCK_METHOD(Result<ext4::VolumeStatistics>, statistics, (), (override));
  MOCK_METHOD(Result<void>, sync_inode, (ext4::InodeNumber), (override));
  MOCK_METHOD(Result<void>, sync, (), (override));
  MOCK_METHOD(Result<void>, write_back, (), (override));
  MOCK_METHOD(Result<void>, unmount, (), (override));
};

}  // namespace fuse4fs::fuse
