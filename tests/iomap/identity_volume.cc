// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/identity_volume.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/iomap/block_owners.h"

namespace fuse4fs::iomap_model {
namespace {

constexpr ext4::InodeNumber kFile = 12;

}  // namespace

Result<IdentityVolume::Attributes> IdentityVolume::lookup(InodeNumber, std::string_view name) {
  if (name != Ext4Image::kFileName) return fail(ENOENT);
  return attributes(kFile);
}

Result<IdentityVolume::Attributes> IdentityVolume::attributes(InodeNumber inode) {
  if (inode != kFile) return fail(ESTALE);
  return Attributes{.inode = kFile,
                    .generation = 1,
                    .mode = S_IFREG | 0600,
                    .links = 1,
                    .size = image_.file_bytes(),
                    .sectors = image_.file_bytes() / 512};
}

Result<IdentityVolume::Attributes> IdentityVolume::set_attributes(InodeNumber inode,
                                                                  const ext4::AttributeChanges& changes) {
  if (changes.size) return fail(EPERM);
  return attributes(inode);
}

Result<void> IdentityVolume::sync_inode(InodeNumber, SyncWhat) {
  const std::uint64_t began = watch_.flush_begins();
  if (::fdatasync(image_.device()) != 0) return fail_last();
  watch_.flush_ended(began);
  return {};
}

ext4::MappingLimits IdentityVolume::mapping_limits() const {
  return {.uuid = {4, 5, 6},
          .largest_file = std::uint64_t{1} << 42,
          .most_links = 1,
          .earliest_time = 0,
          .latest_time = std::int64_t{1} << 33};
}

Result<ext4::DataMapping> IdentityVolume::map(InodeNumber inode, const ext4::MappingRequest& request) {
  if (inode != kFile) return fail(ESTALE);
  for (const Ext4Image::Extent& extent : image_.extents()) {
    if (request.range.offset - extent.offset >= extent.length) continue;
    const ext4::DataMapping mapping{.kind = ext4::DataMapping::Kind::kWritten,
                                    .offset = extent.offset,
                                    .length = extent.length,
                                    .device_offset = extent.address};
    if (request.purpose != ext4::MappingPurpose::kReport) cache_->remember(inode, mapping);
    return mapping;
  }
  return fail(EFBIG);
}

Result<std::uint64_t> IdentityVolume::complete_write(InodeNumber, const ext4::CompletedWrite&) {
  return image_.file_bytes();
}

}  // namespace fuse4fs::iomap_model
