// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/mapper.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace fuse4fs::iomap_model {
namespace {

using iomap_abi::Mapping;

constexpr int kMostRetries = 1000;

// What the errno of a refused BEGIN needs no fault of the server for.
bool is_usual_refusal(std::uint32_t operation, int error) {
  const bool allocates = (operation & (abi::kOpWrite | abi::kOpUnshare)) != 0;
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return allocates && (operation & abi::kOpWriteback) == 0;
    case EFBIG:
      return (allocates || (operation & abi::kOpZero) != 0) && (operation & abi::kOpWriteback) == 0;
    case EAGAIN:
      return (operation & (abi::kOpNoWait | abi::kOpOverwriteOnly)) != 0;
    case ENOSYS:
      return (operation & abi::kOpDirect) != 0;
    case EOPNOTSUPP:
    case EINVAL:
      return (operation & (abi::kOpAtomic | abi::kOpSwapFile)) != 0;
    default:
      return false;
  }
}

// The blocks of the mapping that were asked for.
Mapping part_of(const Mapping& mapping, std::uint64_t position, std::uint64_t count, std::uint64_t block) {
  Mapping part = mapping;
  const std::uint64_t begin = std::max(mapping.offset, position / block * block);
  const std::uint64_t end =
      std::min(mapping.offset + mapping.length, (position + count + block - 1) / block * block);
  if (mapping.address != abi::kNullAddress) part.address += begin - mapping.offset;
  part.offset = begin;
  part.length = end > begin ? end - begin : 0;
  return part;
}

}  // namespace

Mapper::Mapper(Core& core, NodeId id, FileLedger& ledger)
    : core_(core),
      id_(id),
      ledger_(ledger),
      cache_(core.limits.cache_max_bytes, core.limits.block_size,
             core.quirks.has(Quirk::kFullInvalidationKeepsSequence) ? MappingCache::WholeDrop::kKeepsSequence
                                                                    : MappingCache::WholeDrop::kCounts) {}

RuleContext Mapper::context() const {
  return {.block_size = core_.limits.block_size,
          .largest_file = core_.limits.largest_file,
          .cache = cache_.exists() ? RuleContext::Cache::kPresent : RuleContext::Cache::kAbsent,
          .device_size = [this](std::uint32_t id) -> std::optional<std::uint64_t> {
            const Device* const device = core_.devices.find(id);
            return device ? std::optional(device->size()) : std::nullopt;
          }};
}

std::unexpected<Errno> Mapper::broken(Breach breach) {
  breach.details = fmt::format("node {}: {}", id_.node, breach.details);
  core_.breaches.add(std::move(breach));
  return fail(kCorrupted);
}

std::optional<Mapper::Answer> Mapper::cached(std::uint32_t operation, std::uint64_t position,
                                             std::uint64_t count) const {
  if ((operation & (abi::kOpAtomic | abi::kOpSwapFile)) != 0) return std::nullopt;
  const auto hit = cache_.find(position, count);
  if (!hit) return std::nullopt;
  // As 7.0: rounded up as a signed number, and what overflows is as long as numbers go.
  constexpr std::uint64_t kBehindAll = std::uint64_t{1} << 63;
  if (position + count > kBehindAll - core_.limits.block_size)
    core_.breaches.add(Rule::kReportOverflows,
                       fmt::format("node {}: {} from {} on", id_.node, count, position));
  const bool elsewhere = (operation & abi::kFileWriteOps) != 0 && hit->write.type != abi::kPureOverwrite;
  Answer answer{.mapping = elsewhere ? hit->write : hit->read,
                .source = hit->read,
                .cookie = hit->cookie,
                .asked = {.offset = position, .length = count}};
  const bool write = (operation & abi::kFileWriteOps) != 0;
  if (write && answer.mapping.type == abi::kHole && (operation & (abi::kOpZero | abi::kOpUnshare)) == 0)
    return std::nullopt;
  if (write && answer.mapping.type == abi::kDelalloc && (operation & abi::kOpDirect) != 0)
    return std::nullopt;
  return answer;
}

Result<Mapper::Answer> Mapper::refused(std::uint32_t operation, Errno error) {
  const int number = error.value();
  if (number == ENOTBLK && (operation & abi::kOpDirect) != 0) {
    (void)broken({Rule::kDirectRefusedUnheard, fmt::format("for {:#x}", operation)});
    return fail(error);
  }
  if (!is_usual_refusal(operation, number) && !core_.causes.explain(number) && number != ENOTCONN &&
      number != EIO)
    core_.breaches.add(Rule::kBeginRefused,
                       fmt::format("node {} for {:#x}: {}", id_.node, operation, error.message()));
  else if (number == EIO && !core_.causes.explain(EIO) && !core_.breaches.rules().contains(Rule::kReplySize))
    core_.breaches.add(Rule::kBeginRefused, fmt::format("node {} for {:#x}: EIO", id_.node, operation));
  return fail(error);
}

Result<Mapper::Answer> Mapper::begin(std::uint32_t operation, std::uint64_t position, std::uint64_t count,
                                     std::uint64_t file_size, From from) {
  for (int tries = 0; tries < kMostRetries; ++tries) {
    if (from == From::kCache) {
      if (auto hit = cached(operation, position, count)) {
        // Where it lies was judged when it was given.
        if (auto breach = check_use(hit->mapping, operation, position, count, file_size))
          return broken(std::move(*breach));
        return *hit;
      }
    }
    const auto snapshot = ledger_.before_begin({.offset = position, .length = count});
    const abi::BeginIn in{
        .operation = operation, .reserved = 0, .inode = id_.inode, .position = position, .count = count};
    const auto out = core_.connection.ask<abi::BeginOut>(abi::kBegin, id_.node, in);
    if (!out) return refused(operation, out.error());
    if (auto breach = check_begin(*out, position, context())) return broken(std::move(*breach));
    if (out->read.type == abi::kRetryCache) continue;
    const bool elsewhere = (operation & abi::kFileWriteOps) != 0 && out->write.type != abi::kPureOverwrite;
    const Answer answer{.mapping = elsewhere ? out->write : out->read,
                        .source = out->read,
                        .cookie = 0,
                        .asked = {.offset = position, .length = count}};
    if (auto breach = judge(snapshot, answer, operation, position, count, file_size))
      return broken(std::move(*breach));
    return answer;
  }
  return broken({Rule::kRetryWithoutEnd, fmt::format("at {}", position)});
}

std::optional<Breach> Mapper::judge_device(const Mapping& part) {
  if (part.type != abi::kMapped && part.type != abi::kUnwritten) return std::nullopt;
  const Device& device = *core_.devices.find(part.device);
  if (part.address % core_.limits.block_size != 0) return Breach{Rule::kAddressMisaligned, describe(part)};
  if (part.address > device.size() || part.length > device.size() - part.address)
    return Breach{Rule::kBehindDevice, fmt::format("{} of {}", describe(part), device.size())};
  return core_.owners.claim(id_.node, {.offset = part.offset, .length = part.length}, part.address);
}

void Mapper::reuse(const Answer& answer, ByteRange range) {
  const Mapping part = part_of(answer.mapping, range.offset, range.length, core_.limits.block_size);
  if (auto breach = judge_device(part)) (void)broken(std::move(*breach));
}

std::optional<Breach> Mapper::judge(const FileLedger::Snapshot& snapshot, const Answer& answer,
                                    std::uint32_t operation, std::uint64_t position, std::uint64_t count,
                                    std::uint64_t file_size) {
  if (auto breach = check_use(answer.mapping, operation, position, count, file_size)) return breach;
  const Mapping part = part_of(answer.mapping, position, count, core_.limits.block_size);
  if (auto breach = judge_device(part)) return breach;
  const Device* const device = core_.devices.find(part.device);
  return ledger_.judge_answer(snapshot, part, operation, file_size, device);
}

Result<void> Mapper::end(const Answer& answer, const Finished& finished) {
  if (core_.quirks.has(Quirk::kEndNotSent)) return {};
  // Kernels of v7 look at the wrong bit.
  const std::uint16_t wanted = core_.quirks.has(Quirk::kWantEndIneffective) ? abi::kAnonWrite : abi::kWantEnd;
  const bool is_write = (finished.operation & abi::kFileWriteOps) != 0;
  const bool sent =
      (answer.mapping.flags & wanted) != 0 ||
      (is_write && (finished.written < finished.count || (finished.more_flags & abi::kSizeChanged) != 0));
  if (!sent) return {};
  abi::EndIn in{.operation = finished.operation,
                .reserved = 0,
                .inode = id_.inode,
                .position = finished.position,
                .count = finished.count,
                .written = static_cast<std::int64_t>(finished.written),
                .mapping = answer.mapping};
  in.mapping.flags |= finished.more_flags;
  const auto ended = core_.connection.tell(abi::kEnd, id_.node, in);
  if (ended) return {};
  const int error = ended.error().value();
  if (error == ENOSYS) {
    // Left out from then on: told once by the connection.
    core_.breaches.add(Rule::kUpcallUnsupported, "END");
    return {};
  }
  if (!core_.causes.explain(error) && error != ENOTCONN)
    core_.breaches.add(Rule::kEndRefused, fmt::format("node {}: {}", id_.node, ended.error().message()));
  if (finished.written == 0) return ended;
  return {};
}

bool Mapper::sends_ioend(const Completed& completed) const {
  constexpr std::uint32_t kMatters = abi::kIoendShared | abi::kIoendUnwritten | abi::kIoendAppend;
  return completed.error != 0 || (completed.flags & abi::kIoendSwapOff) != 0 ||
         (completed.range.length > 0 && (completed.flags & kMatters) != 0);
}

Result<void> Mapper::ioend(const Completed& what) {
  Completed completed = what;
  const std::uint64_t end = completed.range.offset + completed.range.length;
  if (end > disk_size_) completed.flags |= abi::kIoendAppend;
  if (sends_ioend(completed)) {
    const bool in_sectors =
        core_.quirks.has(Quirk::kNewAddressInSectors) && completed.address != abi::kNullAddress;
    const abi::IoendIn in{.flags = completed.flags,
                          .error = -completed.error,
                          .inode = id_.inode,
                          .position = completed.range.offset,
                          .new_address = in_sectors ? completed.address / 512 : completed.address,
                          .written = completed.range.length,
                          .device = completed.device,
                          .padding = 0};
    const auto out = core_.connection.ask<abi::IoendOut>(abi::kIoend, id_.node, in);
    if (completed.error != 0) return {};  // it may be answered by the same error
    if (!out && out.error() == Errno(ENOSYS)) {
      core_.breaches.add(Rule::kUpcallUnsupported, "IOEND");
    } else if (!out) {
      const int error = out.error().value();
      if (!core_.causes.explain(error) && error != ENOTCONN &&
          !core_.breaches.rules().contains(Rule::kReplySize))
        core_.breaches.add(Rule::kIoendRefused, fmt::format("node {}: {}", id_.node, out.error().message()));
      refused_ = true;
      return fail(out.error());
    } else {
      if (out->new_size < end)
        core_.breaches.add(Rule::kSizeBelowIoend,
                           fmt::format("node {}: {} after writing up to {}", id_.node, out->new_size, end));
      disk_size_ = out->new_size;
      if ((completed.flags & abi::kIoendUnwritten) != 0) ledger_.ioend_succeeded(completed.range);
    }
  }
  if (completed.error != 0) return {};
  const bool changed = (completed.flags & (abi::kIoendUnwritten | abi::kIoendShared)) != 0;
  if (!changed && !core_.quirks.has(Quirk::kOverwriteDropsMapping)) return {};
  const std::uint64_t block = core_.limits.block_size;
  const std::uint64_t first = completed.range.offset / block * block;
  cache_.invalidate({.offset = first, .length = (end + block - 1) / block * block - first});
  return {};
}

Result<void> Mapper::upsert(const abi::UpsertMappingsOut& what) {
  if (what.inode != id_.inode) {
    core_.breaches.add(Rule::kNotificationOfOtherInode, fmt::format("node {}", id_.node));
    return fail(EINVAL);
  }
  for (const auto& [record, fork, mapping] :
       {std::tuple(Record::kRead, MappingCache::Fork::kRead, &what.read),
        std::tuple(Record::kWrite, MappingCache::Fork::kWrite, &what.write)}) {
    if (auto breach = check_upsert(*mapping, record, context())) return broken(std::move(*breach));
    if (mapping->type != abi::kNoCache) {
      const auto snapshot = ledger_.before_begin({.offset = mapping->offset, .length = mapping->length});
      if (auto breach = judge_device(*mapping)) return broken(std::move(*breach));
      const Device* const device = core_.devices.find(mapping->device);
      if (auto breach = ledger_.judge_answer(snapshot, *mapping, abi::kOpReport, abi::kToEndOfFile, device))
        return broken(std::move(*breach));
    }
    cache_.upsert(fork, *mapping);
  }
  return {};
}

Result<void> Mapper::invalidate(const abi::InvalidateMappingsOut& what) {
  if (what.inode != id_.inode) {
    core_.breaches.add(Rule::kNotificationOfOtherInode, fmt::format("node {}", id_.node));
    return fail(EINVAL);
  }
  for (const abi::Range* range : {&what.read, &what.write})
    if (auto breach = check_invalidation(*range, context())) return broken(std::move(*breach));
  cache_.invalidate(MappingCache::Fork::kRead, {what.read.offset, what.read.length});
  cache_.invalidate(MappingCache::Fork::kWrite, {what.write.offset, what.write.length});
  // Whoever frees without being asked says so by this first.
  if (what.read.length != 0) core_.owners.released(id_.node, {what.read.offset, what.read.length});
  return {};
}

}  // namespace fuse4fs::iomap_model
