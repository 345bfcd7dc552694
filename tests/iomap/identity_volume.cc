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
  const bool reports = request.purpose == ext4::MappingPurpose::kReport;
  constexpr std::uint64_t kPage = 4096;
  const std::uint64_t begin = request.range.offset & ~(kPage - 1);
  for (const Ext4Image::Extent& extent : image_.extents()) {
    if (request.range.offset - extent.offset >= extent.length) continue;
    const std::uint64_t front = reports ? begin - extent.offset : 0;
    const ext4::DataMapping mapping{.kind = ext4::DataMapping::Kind::kWritten,
                                    .offset = extent.offset + front,
                                    .length = extent.length - front,
                                    .device_offset = extent.address + front};
    if (!reports) cache_->remember(inode, mapping);
    return mapping;
  }
  if (!reports) return fail(EFBIG);
  return ext4::DataMapping{.offset = begin, .length = (std::uint64_t{1} << 63) - begin};
}

Result<std::uint64_t> IdentityVolume::complete_write(InodeNumber, const ext4::CompletedWrite&) {
  return image_.file_bytes();
}

}  // namespace fuse4fs::iomap_model
