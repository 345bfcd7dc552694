// SPDX-License-Identifier: GPL-2.0-or-later
#include "server/fuse/mapping_wire.h"

#include <algorithm>
#include <limits>

namespace fuse4fs::fuse {
namespace {

using ext4::DataMapping;
using ext4::MappingPurpose;
using ext4::MappingRequest;

constexpr std::uint64_t kLargestOffset = std::numeric_limits<std::int64_t>::max();

Result<ext4::ByteRange> range_of(std::uint64_t position, std::uint64_t count) {
  if (position > kLargestOffset) return fail(EINVAL);
  // FIEMAP of a whole file asks for more than there can be.
  return ext4::ByteRange{.offset = position, .length = std::min(count, kLargestOffset - position)};
}

iomap_abi::MappingType type_of(DataMapping::Kind kind) {
  switch (kind) {
    case DataMapping::Kind::kWritten:
      return iomap_abi::kMapped;
    case DataMapping::Kind::kUnwritten:
      return iomap_abi::kUnwritten;
    case DataMapping::Kind::kInline:
      return iomap_abi::kInline;
    case DataMapping::Kind::kHole:
      break;
  }
  return iomap_abi::kHole;
}

// Kernels of v7 look at the range of every type.
iomap_abi::Mapping without_place(const DataMapping& mapping, iomap_abi::MappingType type) {
  iomap_abi::Mapping wire{};
  wire.offset = mapping.offset;
  wire.length = mapping.length;
  wire.type = type;
  wire.address = iomap_abi::kNullAddress;
  return wire;
}

}  // namespace

MappingPurpose purpose_of(std::uint32_t operation) {
  if ((operation & iomap_abi::kOpWriteback) != 0) return MappingPurpose::kWriteBack;
  // Comes with kOpReport.
  if ((operation & iomap_abi::kOpSwapFile) != 0) return MappingPurpose::kSwap;
  if ((operation & iomap_abi::kOpReport) != 0) return MappingPurpose::kReport;
  // Comes with kOpWrite.
  if ((operation & iomap_abi::kOpUnshare) != 0) return MappingPurpose::kUnshare;
  if ((operation & iomap_abi::kOpZero) != 0) return MappingPurpose::kZero;
  if ((operation & iomap_abi::kOpWrite) == 0) return MappingPurpose::kRead;
  return (operation & iomap_abi::kOpDirect) != 0 ? MappingPurpose::kDirectWrite
                                                 : MappingPurpose::kBufferedWrite;
}

Result<MappingRequest> mapping_request(const iomap_abi::BeginIn& in) {
  if ((in.operation & iomap_abi::kOpDax) != 0) return fail(EOPNOTSUPP);
  MappingRequest request;
  ASSIGN_OR_RETURN(request.range, range_of(in.position, in.count));
  request.purpose = purpose_of(in.operation);
  if ((in.operation & iomap_abi::kOpOverwriteOnly) != 0)
    request.allowed = MappingRequest::Allowed::kWrittenOnly;
  if ((in.operation & iomap_abi::kOpAtomic) != 0) request.pieces = MappingRequest::Pieces::kWhole;
  return request;
}

ext4::FinishedOperation finished_operation(const iomap_abi::EndIn& in) {
  ext4::FinishedOperation finished;
  finished.purpose = purpose_of(in.operation);
  if (const auto range = range_of(in.position, in.count)) finished.range = *range;
  if (in.written > 0) finished.done = std::min(static_cast<std::uint64_t>(in.written), finished.range.length);
  if ((in.mapping.flags & iomap_abi::kSizeChanged) != 0)
    finished.end_of_file = ext4::FinishedOperation::EndOfFile::kMoved;
  return finished;
}

Result<ext4::CompletedWrite> completed_write(const iomap_abi::IoendIn& in) {
  using ext4::CompletedWrite;
  CompletedWrite write;
  ASSIGN_OR_RETURN(write.range, range_of(in.position, in.written));
  if ((in.flags & iomap_abi::kIoendSwapOff) != 0) write.kind = CompletedWrite::Kind::kSwapOff;
  if ((in.flags & iomap_abi::kIoendUnwritten) != 0) write.extents = CompletedWrite::Extents::kUnwritten;
  if ((in.flags & iomap_abi::kIoendDirect) != 0) write.way = CompletedWrite::Way::kDirect;
  if (in.error != 0) write.error = Errno(in.error < 0 && in.error > -4096 ? -in.error : EIO);
  return write;
}

iomap_abi::Mapping to_wire(const DataMapping& mapping, std::uint32_t device) {
  iomap_abi::Mapping wire{};
  wire.offset = mapping.offset;
  wire.length = mapping.length;
  wire.type = type_of(mapping.kind);
  wire.address = mapping.has_blocks() ? mapping.device_offset : iomap_abi::kNullAddress;
  wire.device = mapping.has_blocks() ? device : iomap_abi::kNullDevice;
  if (mapping.metadata == DataMapping::Metadata::kPending) wire.flags |= iomap_abi::kDirty;
  // What the kernel reports of any write to it.
  if (mapping.report == DataMapping::Report::kAlways) wire.flags |= iomap_abi::kShared;
  if (mapping.pieces == DataMapping::Pieces::kWhole) wire.flags |= iomap_abi::kAtomicBio;
  return wire;
}

iomap_abi::Mapping retry_cache(const DataMapping& mapping) {
  return without_place(mapping, iomap_abi::kRetryCache);
}

iomap_abi::Mapping pure_overwrite(const DataMapping& mapping) {
  return without_place(mapping, iomap_abi::kPureOverwrite);
}

std::string_view broken_rule(const DataMapping& mapping, std::uint64_t position, std::uint32_t block_size) {
  if (mapping.length == 0) return "it is empty";
  if (mapping.offset % block_size != 0 || mapping.length % block_size != 0)
    return "it is not of whole blocks";
  if (mapping.length > UINT64_MAX - mapping.offset) return "it ends behind all numbers";
  if (mapping.offset > position || position - mapping.offset >= mapping.length)
    return "the first byte that was asked for is not in it";
  if (mapping.has_blocks() && (mapping.device_offset % block_size != 0 ||
                               mapping.length > iomap_abi::kNullAddress - 1 - mapping.device_offset))
    return "its place on the device is none";
  return {};
}

}  // namespace fuse4fs::fuse
