// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/mapping_notifier.h"

#include <fmt/format.h>

#include <cerrno>

#include "base/fuse_iomap_abi.h"
#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/mapping_wire.h"

namespace fuse4fs::fuse {
namespace {

// The kernel has not got the inode, so it has no mappings of it.
bool is_unknown_there(Errno error) { return error == Errno(ESTALE) || error == Errno(ENOENT); }

}  // namespace

Result<void> MappingNotifier::invalidate(ext4::InodeNumber inode, ext4::ByteRange range) {
  const auto told =
      notify(kernel_, device_fd_, iomap_abi::kInvalidateMappings,
             iomap_abi::InvalidateMappingsOut{.node = node_id(inode),
                                              .inode = inode,
                                              .read = {.offset = range.offset, .length = range.length},
                                              .write = {}});
  if (told || is_unknown_there(told.error())) return {};
  log_error("inode {}: the kernel keeps mappings of bytes {} and on that it was told to forget: {}", inode,
            range.offset, told.error().message());
  return told;
}

Result<void> MappingNotifier::forget(ext4::InodeNumber inode, ext4::ByteRange range) {
  // Kernels of v7 drop all that they have of a file without noticing that it changed: who has taken a mapping
  // out of it a moment before goes on with that one. Of a part they notice.
  const bool everything = range.offset == 0 && range.length == kToEnd;
  if (everything) RETURN_IF_ERROR(invalidate(inode, {.offset = 0, .length = block_size_}));
  return invalidate(inode, everything ? ext4::ByteRange{.offset = block_size_, .length = kToEnd} : range);
}

bool MappingNotifier::remember(ext4::InodeNumber inode, const ext4::DataMapping& mapping) {
  const auto told = notify(kernel_, device_fd_, iomap_abi::kUpsertMappings,
                           iomap_abi::UpsertMappingsOut{.node = node_id(inode),
                                                        .inode = inode,
                                                        .read = to_wire(mapping, device_),
                                                        .write = pure_overwrite(mapping)});
  if (told) return true;
  if (is_unknown_there(told.error())) return false;
  // It had no memory, or took it for wrong: then the next question gets the same answer.
  const auto level = told.error() == Errno(ENOMEM) ? LogLevel::kDebug : LogLevel::kWarning;
  log_line(level,
           fmt::format("inode {}: the kernel does not keep the mapping of bytes {} to {}: {}", inode,
                       mapping.offset, mapping.offset + mapping.length, told.error().message()),
           {});
  return false;
}

Result<void> MappingNotifier::forget_device(ext4::ByteRange range) {
  const auto told = notify(
      kernel_, device_fd_, iomap_abi::kDeviceInvalidate,
      iomap_abi::DeviceInvalidateOut{
          .device = device_, .reserved = 0, .range = {.offset = range.offset, .length = range.length}});
  if (!told)
    log_error("the kernel keeps pages of bytes {} to {} of the device that it was told to forget: {}",
              range.offset, range.offset + range.length, told.error().message());
  return told;
}

}  // namespace fuse4fs::fuse
