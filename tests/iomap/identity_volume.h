// SPDX-License-Identifier: GPL-2.0-or-later
// A server of one file whose blocks are all there and stay where they are: the file of an Ext4Image.
//
// Any thread: nothing changes.
#pragma once

#include <string_view>

#include "server/ext4/mapping_service.h"
#include "tests/iomap/ext4_image.h"
#include "tests/iomap/partial_file_system.h"

namespace fuse4fs::iomap_model {

class VolumeWatch;

class IdentityVolume final : public PartialFileSystem, public ext4::MappingService {
 public:
  // Owns neither.
  IdentityVolume(const Ext4Image& image, VolumeWatch& watch) : image_(image), watch_(watch) {}

  Result<Attributes> lookup(InodeNumber parent, std::string_view name) override;
  Result<Attributes> attributes(InodeNumber inode) override;
  // Times, which it does not keep.
  Result<Attributes> set_attributes(InodeNumber inode, const ext4::AttributeChanges& changes) override;
  Result<void> sync_inode(InodeNumber inode, SyncWhat what) override;
  ext4::MappingService* mappings() override { return this; }

  [[nodiscard]] ext4::MappingLimits mapping_limits() const override;
  void set_mapping_cache(ext4::MappingCache& cache) override { cache_ = &cache; }
  Result<ext4::DataMapping> map(InodeNumber inode, const ext4::MappingRequest& request) override;
  Result<void> finish(InodeNumber, const ext4::FinishedOperation&) override { return {}; }
  Result<std::uint64_t> complete_write(InodeNumber inode, const ext4::CompletedWrite& write) override;

 private:
  const Ext4Image& image_;
  VolumeWatch& watch_;
  ext4::MappingCache* cache_ = nullptr;  // set before the first map()
};

}  // namespace fuse4fs::iomap_model
