// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/rules.h"

#include <fmt/format.h>

#include <array>
#include <climits>
#include <string_view>

namespace fuse4fs::iomap_model {
namespace {

std::string type_name(std::uint16_t type) {
  constexpr std::array<std::string_view, 5> kNames{"HOLE", "DELALLOC", "MAPPED", "UNWRITTEN", "INLINE"};
  if (type < kNames.size()) return std::string(kNames[type]);
  if (type == abi::kNoCache) return "NOCACHE";
  if (type == abi::kRetryCache) return "RETRY_CACHE";
  if (type == abi::kPureOverwrite) return "PURE_OVERWRITE";
  return fmt::format("type {}", type);
}

bool on_device(const abi::Mapping& mapping) {
  return mapping.type == abi::kMapped || mapping.type == abi::kUnwritten;
}

bool overflows(std::uint64_t start, std::uint64_t length) { return start + length < start; }

std::string_view name(Record record) { return record == Record::kRead ? "read" : "write"; }

std::optional<Breach> breach(Rule rule, Record record, const abi::Mapping& mapping) {
  return Breach{rule, fmt::format("{} {}", name(record), describe(mapping))};
}

}  // namespace

std::string describe(const abi::Mapping& mapping) {
  const std::string address =
      mapping.address == abi::kNullAddress ? "nowhere" : std::to_string(mapping.address);
  return fmt::format("{}+{} {} at {} on {} flags {:#x}", mapping.offset, mapping.length,
                     type_name(mapping.type), address, mapping.device, mapping.flags);
}

std::optional<Breach> check_mapping(const abi::Mapping& mapping, Record record, const RuleContext& context) {
  const auto broken = [&](Rule rule) { return breach(rule, record, mapping); };
  switch (mapping.type) {
    case abi::kHole:
    case abi::kDelalloc:
    case abi::kMapped:
    case abi::kUnwritten:
    case abi::kInline:
    case abi::kPureOverwrite:
      break;
    case abi::kNoCache:
      return std::nullopt;
    case abi::kRetryCache:
      // It is the read record that says where to look.
      if (record == Record::kWrite) return broken(Rule::kRetryInWriteRecord);
      if (context.cache == RuleContext::Cache::kAbsent) return broken(Rule::kRetryWithoutCache);
      return std::nullopt;
    default:
      return broken(Rule::kMappingType);
  }
  if ((mapping.flags & ~abi::kServersFlags) != 0) return broken(Rule::kMappingFlags);
  if (mapping.length == 0) return broken(Rule::kMappingLengthZero);
  if (mapping.offset % context.block_size != 0) return broken(Rule::kMappingOffsetMisaligned);
  if (mapping.length % context.block_size != 0) return broken(Rule::kMappingLengthMisaligned);
  if (overflows(mapping.offset, mapping.length)) return broken(Rule::kMappingOverflow);
  if (mapping.offset >= context.largest_file) return broken(Rule::kMappingBehindLargestFile);
  if (on_device(mapping)) {
    if (mapping.device == abi::kNullDevice) return broken(Rule::kMappedWithoutDevice);
    if (mapping.address == abi::kNullAddress) return broken(Rule::kMappedWithoutAddress);
  } else if (mapping.type == abi::kPureOverwrite) {
    if (record == Record::kRead) return broken(Rule::kPureOverwriteInReadRecord);
  } else {
    if (mapping.device != abi::kNullDevice) return broken(Rule::kHoleWithDevice);
    if (mapping.address != abi::kNullAddress) return broken(Rule::kHoleWithAddress);
  }
  if (mapping.address != abi::kNullAddress && overflows(mapping.address, mapping.length))
    return broken(Rule::kAddressOverflow);
  return std::nullopt;
}

std::optional<Breach> check_begin(const abi::BeginOut& reply, std::uint64_t position,
                                  const RuleContext& context) {
  for (const auto& [record, mapping] :
       {std::pair(Record::kRead, &reply.read), std::pair(Record::kWrite, &reply.write)})
    if (auto broken = check_mapping(*mapping, record, context)) return broken;
  for (const auto& [record, mapping] :
       {std::pair(Record::kRead, &reply.read), std::pair(Record::kWrite, &reply.write)}) {
    if (mapping->type == abi::kNoCache) return breach(Rule::kNoCacheInReply, record, *mapping);
    // Also of RETRY_CACHE, which needs no range otherwise.
    if (mapping->offset > position || mapping->offset + mapping->length <= position)
      return Breach{Rule::kPositionNotCovered,
                    fmt::format("{} {} asked at {}", name(record), describe(*mapping), position)};
    if (on_device(*mapping) && (mapping->device >= INT_MAX || !context.device_size(mapping->device)))
      return breach(Rule::kDeviceUnknown, record, *mapping);
  }
  return std::nullopt;
}

std::optional<Breach> check_upsert(const abi::Mapping& mapping, Record record, const RuleContext& context) {
  if (mapping.type == abi::kNoCache) return std::nullopt;
  if (mapping.type == abi::kRetryCache) return breach(Rule::kRetryInUpsert, record, mapping);
  if (auto broken = check_mapping(mapping, record, context)) return broken;
  if (mapping.device == abi::kNullDevice) {
    if (mapping.address != abi::kNullAddress) return breach(Rule::kHoleWithAddress, record, mapping);
    return std::nullopt;
  }
  const auto size = context.device_size(mapping.device);
  if (!size) return breach(Rule::kDeviceUnknown, record, mapping);
  if (mapping.address == abi::kNullAddress) return breach(Rule::kUpsertWithoutAddress, record, mapping);
  if (mapping.address + mapping.length > *size) return breach(Rule::kUpsertBehindDevice, record, mapping);
  return std::nullopt;
}

std::optional<Breach> check_invalidation(const abi::Range& range, const RuleContext& context) {
  if (range.length == 0) return std::nullopt;
  const auto words = [&] { return fmt::format("{}+{}", range.offset, range.length); };
  if (range.offset >= context.largest_file) return Breach{Rule::kInvalidationBehindLargestFile, words()};
  if (range.offset % context.block_size != 0) return Breach{Rule::kInvalidationMisaligned, words()};
  if (range.length != abi::kToEndOfFile && range.length % context.block_size != 0)
    return Breach{Rule::kInvalidationMisaligned, words()};
  return std::nullopt;
}

std::optional<Breach> check_use(const abi::Mapping& mapping, std::uint32_t operation, std::uint64_t position,
                                std::uint64_t count, std::uint64_t file_size) {
  const auto broken = [&](Rule rule) {
    return Breach{rule, fmt::format("{} for {:#x} of {}+{} size {}", describe(mapping), operation, position,
                                    count, file_size)};
  };
  const bool direct = (operation & abi::kOpDirect) != 0;
  const bool writeback = (operation & abi::kOpWriteback) != 0;
  const bool write = (operation & abi::kOpWrite) != 0;
  switch (mapping.type) {
    case abi::kHole:
      if (writeback) return broken(Rule::kHoleForWriteback);
      if (write) return broken(direct ? Rule::kHoleForDirectWrite : Rule::kHoleForBufferedWrite);
      break;
    case abi::kDelalloc:
      if (writeback) return broken(Rule::kDelallocForWriteback);
      if (direct) return broken(Rule::kDelallocForDirectWrite);
      break;
    case abi::kInline:
      if (writeback) return broken(Rule::kInlineForWriteback);
      if (mapping.offset != 0 || file_size > mapping.length) return broken(Rule::kInlineTooLarge);
      break;
    default:
      break;
  }
  if ((operation & abi::kOpOverwriteOnly) != 0 && mapping.type != abi::kMapped)
    return broken(Rule::kOverwriteOfUnwritten);
  const bool atomic = (operation & abi::kOpAtomic) != 0;
  const bool promised = (mapping.flags & abi::kAtomicBio) != 0;
  if (atomic && mapping.offset + mapping.length < position + count) return broken(Rule::kAtomicInPieces);
  if (atomic && on_device(mapping) && !promised) return broken(Rule::kAtomicNotPromised);
  if (!atomic && direct && write && promised) return broken(Rule::kAtomicUnasked);
  return std::nullopt;
}

}  // namespace fuse4fs::iomap_model
