// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/mapping_requests.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/fuse_iomap_abi.h"
#include "base/log.h"
#include "server/fuse/conversions.h"
#include "server/fuse/decoded.h"
#include "server/fuse/mapping_wire.h"

namespace fuse4fs::fuse {
namespace {

// The inode of a request that names it twice; 0 if it names two.
ext4::InodeNumber inode_of(const fuse_in_header& header, std::uint64_t inode) {
  const ext4::InodeNumber number = inode_number(header.nodeid);
  return number == inode ? number : 0;
}

// What the kernel would take for "never send this again".
Errno not_for_ever(Errno error) { return error == Errno(ENOSYS) ? Errno(EOPNOTSUPP) : error; }

}  // namespace

MappingRequests::MappingRequests(ext4::FileSystem& file_system, const SessionOptions& options)
    : file_system_(file_system), mappings_(*file_system.mappings()), options_(options) {}

bool MappingRequests::serve(std::uint32_t opcode, std::span<const std::byte> request) {
  if (opcode < iomap_abi::kFreeze || opcode > iomap_abi::kEnd) return false;
  Reply reply;
  serve_known(reply, opcode, request);
  return true;
}

void MappingRequests::serve_known(Reply& reply, std::uint32_t opcode, std::span<const std::byte> request) {
  switch (opcode) {
    case iomap_abi::kBegin:
      return begin(reply, request);
    case iomap_abi::kEnd:
      return end(reply, request);
    case iomap_abi::kIoend:
      return complete(reply, request);
    case iomap_abi::kConfig:
      return configure(reply, request);
    case iomap_abi::kFreeze:
      return reply.outcome(file_system_.freeze());
    case iomap_abi::kUnfreeze:
      return reply.outcome(file_system_.thaw());
    default:
      // The device is gone, or is to be given up at once.
      return reply.outcome(file_system_.shut_down(ext4::ShutdownMode::kAtOnce));
  }
}

void MappingRequests::configure(Reply& reply, std::span<const std::byte> request) {
  const auto in = decode<iomap_abi::ConfigIn>(request);
  if (!in) return reply.error(Errno(EINVAL));
  const auto device =
      options_.kernel->register_block_device(CurrentRequest::device_fd(), options_.block_device);
  if (!device) {
    log_error("the kernel does not take the device for iomap: {}; mount with -o noiomap",
              device.error().message());
    failure_ = not_for_ever(device.error());
    return reply.error(*failure_);
  }
  device_ = *device;
  notifier_.emplace(*options_.kernel, CurrentRequest::device_fd(), device_, file_system_.block_size());
  mappings_.set_mapping_cache(*notifier_);

  const auto limits = mappings_.mapping_limits();
  iomap_abi::ConfigOut out{};
  out.flags =
      in->body.flags & (iomap_abi::kConfigId | iomap_abi::kConfigUuid | iomap_abi::kConfigBlockSize |
                        iomap_abi::kConfigMaxLinks | iomap_abi::kConfigTime | iomap_abi::kConfigMaxBytes);
  std::ranges::copy_n(options_.name.begin(),
                      static_cast<std::ptrdiff_t>(std::min(options_.name.size(), sizeof out.id - 1)), out.id);
  std::ranges::copy(limits.uuid, out.uuid);
  out.uuid_length = static_cast<std::uint8_t>(limits.uuid.size());
  // Also what the kernel sets the device's own block size to, so that no page of its cache has both metadata
  // and file data.
  out.block_size = file_system_.block_size();
  out.max_links = limits.most_links;
  // Places in directories are judged by it as well, and have 63 bits. But a whole number of blocks: kernels
  // of v7 round what they are asked for up to that, and FIEMAP of the last one would overflow.
  out.max_bytes = std::numeric_limits<std::int64_t>::max() - (std::int64_t{out.block_size} - 1);
  out.time_granularity = file_system_.time_granularity();
  out.time_min = limits.earliest_time;
  out.time_max = limits.latest_time;
  reply.structure(out);
  configured_ = true;
}

void MappingRequests::begin(Reply& reply, std::span<const std::byte> request) {
  const auto in = decode<iomap_abi::BeginIn>(request);
  if (!in) return reply.error(Errno(EINVAL));
  const ext4::InodeNumber inode = inode_of(in->header, in->body.inode);
  if (inode == 0) return reply.error(Errno(ESTALE));
  const auto wanted = mapping_request(in->body);
  if (!wanted) return reply.error(wanted.error());
  // Whether the device can is not the engine's to know, and the kernel does not look.
  if (wanted->pieces == ext4::MappingRequest::Pieces::kWhole && options_.atomic_write_unit == 0)
    return reply.error(Errno(EOPNOTSUPP));
  const auto mapping = mappings_.map(inode, *wanted);
  if (!mapping) return reply.error(not_for_ever(mapping.error()));
  if (const auto broken = broken_rule(*mapping, in->body.position, file_system_.block_size());
      !broken.empty()) {
    log_error("inode {}: a mapping of byte {} cannot be answered: {}", inode, in->body.position, broken);
    return reply.error(Errno(EUCLEAN));
  }
  const bool remembered = mapping->place == ext4::DataMapping::Place::kRemembered;
  reply.structure(iomap_abi::BeginOut{.read = remembered ? retry_cache(*mapping) : to_wire(*mapping, device_),
                                      .write = pure_overwrite(*mapping)});
}

void MappingRequests::end(Reply& reply, std::span<const std::byte> request) {
  const auto in = decode<iomap_abi::EndIn>(request);
  if (!in) return reply.error(Errno(EINVAL));
  const ext4::InodeNumber inode = inode_of(in->header, in->body.inode);
  if (inode == 0) return reply.error(Errno(ESTALE));
  const auto finished = mappings_.finish(inode, finished_operation(in->body));
  finished ? reply.ok() : reply.error(not_for_ever(finished.error()));
}

void MappingRequests::complete(Reply& reply, std::span<const std::byte> request) {
  const auto in = decode<iomap_abi::IoendIn>(request);
  if (!in) return reply.error(Errno(EINVAL));
  const ext4::InodeNumber inode = inode_of(in->header, in->body.inode);
  if (inode == 0) return reply.error(Errno(ESTALE));
  const auto write = completed_write(in->body);
  if (!write) return reply.error(write.error());
  const auto size = mappings_.complete_write(inode, *write);
  size ? reply.structure(iomap_abi::IoendOut{*size}) : reply.error(not_for_ever(size.error()));
}

}  // namespace fuse4fs::fuse
