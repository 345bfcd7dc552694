// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/mistakes.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>

#include "base/fuse_iomap_abi.h"
#include "server/fuse/kernel_abi.h"

namespace fuse4fs::iomap_model {
namespace {

namespace abi = iomap_abi;

constexpr auto kRows = std::to_array<MistakeRow>({
    {Mistake::kOffsetMisaligned, "OffsetMisaligned", Rule::kMappingOffsetMisaligned},
    {Mistake::kLengthMisaligned, "LengthMisaligned", Rule::kMappingLengthMisaligned},
    {Mistake::kLengthZero, "LengthZero", Rule::kMappingLengthZero},
    {Mistake::kRangeOverflows, "RangeOverflows", Rule::kMappingOverflow},
    {Mistake::kBehindLargestFile, "BehindLargestFile", Rule::kMappingBehindLargestFile},
    {Mistake::kPositionNotCovered, "PositionNotCovered", Rule::kPositionNotCovered},
    {Mistake::kBadType, "BadType", Rule::kMappingType},
    {Mistake::kBadFlags, "BadFlags", Rule::kMappingFlags},
    {Mistake::kHoleWithAddress, "HoleWithAddress", Rule::kHoleWithAddress},
    {Mistake::kHoleWithDevice, "HoleWithDevice", Rule::kHoleWithDevice},
    {Mistake::kMappedWithoutDevice, "MappedWithoutDevice", Rule::kMappedWithoutDevice},
    {Mistake::kMappedWithoutAddress, "MappedWithoutAddress", Rule::kMappedWithoutAddress},
    {Mistake::kDeviceUnknown, "DeviceUnknown", Rule::kDeviceUnknown},
    {Mistake::kAddressOverflows, "AddressOverflows", Rule::kAddressOverflow},
    {Mistake::kAddressMisaligned, "AddressMisaligned", Rule::kAddressMisaligned},
    {Mistake::kBehindDevice, "BehindDevice", Rule::kBehindDevice},
    {Mistake::kWriteRecordEmpty, "WriteRecordEmpty", Rule::kHoleWithAddress},
    {Mistake::kPureOverwriteInRead, "PureOverwriteInRead", Rule::kPureOverwriteInReadRecord},
    {Mistake::kNoCacheInReply, "NoCacheInReply", Rule::kNoCacheInReply},
    {Mistake::kRetryWithoutCache, "RetryWithoutCache", Rule::kRetryWithoutCache},
    {Mistake::kHoleForBufferedWrite, "HoleForBufferedWrite", Rule::kHoleForBufferedWrite},
    {Mistake::kHoleForDirectWrite, "HoleForDirectWrite", Rule::kHoleForDirectWrite},
    {Mistake::kHoleAtWriteback, "HoleAtWriteback", Rule::kHoleForWriteback},
    {Mistake::kDelallocForDirectWrite, "DelallocForDirectWrite", Rule::kDelallocForDirectWrite},
    {Mistake::kDelallocAtWriteback, "DelallocAtWriteback", Rule::kDelallocForWriteback},
    {Mistake::kInlineAtWriteback, "InlineAtWriteback", Rule::kInlineForWriteback},
    {Mistake::kInlineTooLarge, "InlineTooLarge", Rule::kInlineTooLarge},
    {Mistake::kHoleReported, "HoleReported", Rule::kHoleOverData},
    {Mistake::kHolesReportedInPieces, "HolesReportedInPieces", Rule::kReportWithoutEnd},
    {Mistake::kReportsTwice, "ReportsTwice", Rule::kReportedTwice},
    {Mistake::kLargestFileOdd, "LargestFileOdd", Rule::kReportOverflows, MistakeRow::Shows::kWithCache},
    {Mistake::kShortReply, "ShortReply", Rule::kReplySize},
    {Mistake::kLongReply, "LongReply", Rule::kReplySize},
    {Mistake::kInitMinorTooLow, "InitMinorTooLow", Rule::kInitMinorTooLow},
    {Mistake::kInitWritebackCache, "InitWritebackCache", Rule::kInitWritebackCache},
    {Mistake::kTruncatesInOpen, "TruncatesInOpen", Rule::kMappedUninitialised},
    {Mistake::kConfigFlagsUnknown, "ConfigFlagsUnknown", Rule::kConfigRefused},
    {Mistake::kExclusiveMissing, "ExclusiveMissing", Rule::kInodeWithoutIomap},
    {Mistake::kNewSizeTooSmall, "NewSizeTooSmall", Rule::kSizeBelowIoend},
    {Mistake::kOtherSizeThanSet, "OtherSizeThanSet", Rule::kSizeOtherThanSet},
    {Mistake::kIoendUnsupported, "IoendUnsupported", Rule::kUpcallUnsupported},
    {Mistake::kEndUnsupported, "EndUnsupported", Rule::kUpcallUnsupported},
    {Mistake::kWritebackRefused, "WritebackRefused", Rule::kBeginRefused},
    {Mistake::kReadRefused, "ReadRefused", Rule::kBeginRefused},
    {Mistake::kDirectRefusedByNotBlock, "DirectRefusedByNotBlock", Rule::kDirectRefusedUnheard},
    {Mistake::kDirectRefusedInTheMiddle, "DirectRefusedInTheMiddle", Rule::kDirectRefusedLate},
    {Mistake::kInlineReadTooLong, "InlineReadTooLong", Rule::kInlineReadTooLong, MistakeRow::Shows::kInline},
    {Mistake::kTwoFilesOverlap, "TwoFilesOverlap", Rule::kMappedTwice},
    {Mistake::kMapsFreedBlocks, "MapsFreedBlocks", Rule::kMappedFreeBlocks},
    {Mistake::kMapsUninitialised, "MapsUninitialised", Rule::kMappedUninitialised},
    {Mistake::kForgetsConversion, "ForgetsConversion", Rule::kConversionForgotten},
    {Mistake::kConvertsTooFar, "ConvertsTooFar", Rule::kConvertedTooFar},
    {Mistake::kConvertsFailedWrites, "ConvertsFailedWrites", Rule::kFailedWriteCounted},
    {Mistake::kMovesWithoutInvalidation, "MovesWithoutInvalidation", Rule::kCachedMappingStale,
     MistakeRow::Shows::kWithCache},
    {Mistake::kTruncatesWithoutInvalidation, "TruncatesWithoutInvalidation", Rule::kInvalidationForgotten,
     MistakeRow::Shows::kWithCache},
    {Mistake::kPunchesWithoutInvalidation, "PunchesWithoutInvalidation", Rule::kInvalidationForgotten,
     MistakeRow::Shows::kWithCache},
    {Mistake::kInvalidationMisaligned, "InvalidationMisaligned", Rule::kInvalidationMisaligned,
     MistakeRow::Shows::kWithCache},
    {Mistake::kRemembersBehindDevice, "RemembersBehindDevice", Rule::kUpsertBehindDevice,
     MistakeRow::Shows::kWithCache},
    {Mistake::kFreesTwice, "FreesTwice", Rule::kFreedTwice},
    {Mistake::kFreesShortWritesUnasked, "FreesShortWritesUnasked", Rule::kInvalidationForgotten,
     MistakeRow::Shows::kWithCache},
    {Mistake::kTruncateFreesTooMuch, "TruncateFreesTooMuch", Rule::kDataLost},
    {Mistake::kTruncateKeepsTail, "TruncateKeepsTail", Rule::kMappedBehindEnd},
    {Mistake::kLongWritebackAnswers, "LongWritebackAnswers", Rule::kMappedFreeBlocks},
    {Mistake::kZeroRangeKeepsData, "ZeroRangeKeepsData", Rule::kMappedUninitialised},
    {Mistake::kPunchKeepsData, "PunchKeepsData", Rule::kMappedUninitialised},
    {Mistake::kSizeNotMoved, "SizeNotMoved", Rule::kSizeLost},
    {Mistake::kTrustsAppend, "TrustsAppend", Rule::kSizeLost},
    {Mistake::kAllocateForgetsSize, "AllocateForgetsSize", Rule::kSizeLost},
    {Mistake::kSyncWithoutFlush, "SyncWithoutFlush", Rule::kNotFlushed},
    {Mistake::kIoendErrorNotKept, "IoendErrorNotKept", Rule::kIoendErrorForgotten},
    {Mistake::kIoendRefused, "IoendRefused", Rule::kIoendRefused},
    {Mistake::kEndRefused, "EndRefused", Rule::kEndRefused},
});

using Answer = Connection::Answer;

template <class Struct>
std::optional<Struct> read_as(std::span<const std::byte> bytes) {
  Struct out;
  if (bytes.size() < sizeof out) return std::nullopt;
  std::memcpy(&out, bytes.data(), sizeof out);
  return out;
}

// Changes the payload of answers to an opcode, as its struct.
template <class Out, class Change>
Connection::Tampering each(std::uint32_t opcode, Change change) {
  return [opcode, change](Answer& answer) {
    if (answer.opcode != opcode || answer.error != 0) return;
    auto out = read_as<Out>(answer.payload);
    if (!out) return;
    change(*out, answer);
    std::memcpy(answer.payload.data(), &*out, sizeof *out);
  };
}

std::uint32_t operation_of(const Answer& answer) { return read_as<abi::BeginIn>(answer.request)->operation; }

// Of answers with blocks.
template <class Change>
Connection::Tampering each_mapped(Change change) {
  return each<abi::BeginOut>(abi::kBegin, [change](abi::BeginOut& out, const Answer&) {
    if (out.read.device != abi::kNullDevice) change(out);
  });
}

template <class Change>
Connection::Tampering each_hole(Change change) {
  return each<abi::BeginOut>(abi::kBegin, [change](abi::BeginOut& out, const Answer&) {
    if (out.read.type == abi::kHole) change(out);
  });
}

// Answers to operations that have all of `with` and none of `without` become of that type.
Connection::Tampering retype(std::uint32_t with, std::uint32_t without, abi::MappingType type) {
  return each<abi::BeginOut>(abi::kBegin, [=](abi::BeginOut& out, const Answer& answer) {
    const std::uint32_t operation = operation_of(answer);
    if ((operation & with) != with || (operation & without) != 0) return;
    out.read.type = type;
    out.read.address = abi::kNullAddress;
    out.read.device = abi::kNullDevice;
  });
}

Connection::Tampering refuse(
    std::uint32_t opcode, int error,
    std::function<bool(const Answer&)> which = [](const Answer&) { return true; }) {
  return [=](Answer& answer) {
    if (answer.opcode != opcode || !which(answer)) return;
    answer.error = -error;
    answer.payload.clear();
  };
}

// Of direct transfers all but the first BEGIN.
Connection::Tampering refuse_rests(int error) {
  return refuse(abi::kBegin, error, [last = abi::BeginIn{}](const Answer& answer) mutable {
    const auto before = last;
    last = *read_as<abi::BeginIn>(answer.request);
    return (last.operation & abi::kOpDirect) != 0 && last.operation == before.operation &&
           last.inode == before.inode && last.position > before.position &&
           last.position + last.count == before.position + before.count;
  });
}

// As much as was asked for, whatever there is.
Connection::Tampering pad_reads() {
  return [](Answer& answer) {
    if (answer.opcode == FUSE_READ && answer.error == 0)
      answer.payload.resize(read_as<fuse_read_in>(answer.request)->size);
  };
}

Connection::Tampering resize(std::ptrdiff_t by) {
  return [=](Answer& answer) {
    if (answer.opcode == abi::kBegin && answer.error == 0)
      answer.payload.resize(
          static_cast<std::size_t>(static_cast<std::ptrdiff_t>(answer.payload.size()) + by));
  };
}

Connection::Tampering in_mappings(Mistake mistake) {
  switch (mistake) {
    case Mistake::kOffsetMisaligned:
      return each_mapped([](auto& out) { out.read.offset -= 512; });
    case Mistake::kLengthMisaligned:
      return each_mapped([](auto& out) { out.read.length -= 512; });
    case Mistake::kLengthZero:
      return each_mapped([](auto& out) { out.read.length = 0; });
    case Mistake::kRangeOverflows:
      return each_mapped([](auto& out) {
        out.read.offset += 4096;
        out.read.length = std::uint64_t{0} - out.read.offset;
      });
    case Mistake::kBehindLargestFile:
      return each_mapped([](auto& out) { out.read.offset = std::uint64_t{1} << 63; });
    case Mistake::kPositionNotCovered:
      return each_mapped([](auto& out) { out.read.offset += out.read.length; });
    case Mistake::kBadType:
      return each_mapped([](auto& out) { out.read.type = 9; });
    case Mistake::kBadFlags:
      return each_mapped([](auto& out) { out.read.flags |= 0x100; });
    case Mistake::kHoleWithAddress:
      return each_hole([](auto& out) { out.read.address = 0; });
    case Mistake::kHoleWithDevice:
      return each_hole([](auto& out) { out.read.device = 1; });
    case Mistake::kMappedWithoutDevice:
      return each_mapped([](auto& out) { out.read.device = abi::kNullDevice; });
    case Mistake::kMappedWithoutAddress:
      return each_mapped([](auto& out) { out.read.address = abi::kNullAddress; });
    case Mistake::kDeviceUnknown:
      return each_mapped([](auto& out) { out.read.device = 7; });
    case Mistake::kAddressOverflows:
      return each_mapped([](auto& out) { out.read.address = abi::kNullAddress - 4095; });
    case Mistake::kAddressMisaligned:
      return each_mapped([](auto& out) { out.read.address += 512; });
    case Mistake::kBehindDevice:
      return each_mapped([](auto& out) { out.read.address = std::uint64_t{1} << 40; });
    case Mistake::kWriteRecordEmpty:
      // Its range was filled in, and the rest left as it was.
      return each_mapped([](auto& out) { out.write.type = 0, out.write.address = 0; });
    case Mistake::kPureOverwriteInRead:
      return each_mapped([](auto& out) { out.read.type = abi::kPureOverwrite; });
    case Mistake::kNoCacheInReply:
      return each_mapped([](auto& out) { out.write.type = abi::kNoCache; });
    case Mistake::kRetryWithoutCache:
      return each_mapped([](auto& out) { out.read.type = abi::kRetryCache; });
    default:
      return {};
  }
}

}  // namespace

std::span<const MistakeRow> mistakes() { return kRows; }

Connection::Tampering tampering_for(Mistake mistake) {
  constexpr std::uint32_t kNotBuffered = abi::kOpDirect | abi::kOpZero;
  switch (mistake) {
    case Mistake::kHoleForBufferedWrite:
      return retype(abi::kOpWrite, kNotBuffered, abi::kHole);
    case Mistake::kHoleForDirectWrite:
      return retype(abi::kOpWrite | abi::kOpDirect, 0, abi::kHole);
    case Mistake::kHoleAtWriteback:
      return retype(abi::kOpWriteback, 0, abi::kHole);
    case Mistake::kDelallocForDirectWrite:
      return retype(abi::kOpWrite | abi::kOpDirect, 0, abi::kDelalloc);
    case Mistake::kDelallocAtWriteback:
      return retype(abi::kOpWriteback, 0, abi::kDelalloc);
    case Mistake::kInlineAtWriteback:
      return retype(abi::kOpWriteback, 0, abi::kInline);
    case Mistake::kInlineTooLarge:
      return retype(abi::kOpReport, 0, abi::kInline);
    case Mistake::kHoleReported:
      return retype(abi::kOpReport, abi::kOpSwapFile, abi::kHole);
    case Mistake::kHolesReportedInPieces:
      return each_hole(
          [](auto& out) { out.read.length = std::min<std::uint64_t>(out.read.length, 1 << 20); });
    case Mistake::kReportsTwice:
      return each<abi::BeginOut>(abi::kBegin, [](abi::BeginOut& out, const Answer& answer) {
        if ((operation_of(answer) & abi::kOpReport) == 0 || out.read.type != abi::kMapped) return;
        const std::uint64_t more = std::min<std::uint64_t>(out.read.offset, 4096);
        out.read.offset -= more;
        out.read.address -= more;
        out.read.length += more;
      });
    case Mistake::kLargestFileOdd:
      return each<abi::ConfigOut>(abi::kConfig, [](auto& out, const Answer&) {
        out.max_bytes = std::numeric_limits<std::int64_t>::max();
      });
    case Mistake::kShortReply:
      return resize(-8);
    case Mistake::kLongReply:
      return resize(8);
    case Mistake::kInitMinorTooLow:
      return each<fuse_init_out>(FUSE_INIT, [](auto& out, const Answer&) { out.minor = 45; });
    case Mistake::kInitWritebackCache:
      return each<fuse_init_out>(FUSE_INIT,
                                 [](auto& out, const Answer&) { out.flags |= FUSE_WRITEBACK_CACHE; });
    case Mistake::kTruncatesInOpen:
      // It has no OPEN that could.
      return each<fuse_init_out>(FUSE_INIT,
                                 [](auto& out, const Answer&) { out.flags |= FUSE_ATOMIC_O_TRUNC; });
    case Mistake::kConfigFlagsUnknown:
      return each<abi::ConfigOut>(abi::kConfig, [](auto& out, const Answer&) { out.flags |= 0x100; });
    case Mistake::kExclusiveMissing:
      return each<fuse_entry_out>(FUSE_MKNOD,
                                  [](auto& out, const Answer&) { out.attr.flags &= ~abi::kExclusive; });
    case Mistake::kNewSizeTooSmall:
      return each<abi::IoendOut>(abi::kIoend, [](auto& out, const Answer&) { out.new_size -= 1; });
    case Mistake::kOtherSizeThanSet:
      return each<fuse_attr_out>(FUSE_SETATTR, [](auto& out, const Answer& answer) {
        if ((read_as<fuse_setattr_in>(answer.request)->valid & FATTR_SIZE) != 0) out.attr.size += 1;
      });
    case Mistake::kIoendUnsupported:
      return refuse(abi::kIoend, ENOSYS);
    case Mistake::kEndUnsupported:
      return refuse(abi::kEnd, ENOSYS);
    case Mistake::kWritebackRefused:
      return refuse(abi::kBegin, ENOSPC,
                    [](const Answer& answer) { return (operation_of(answer) & abi::kOpWriteback) != 0; });
    case Mistake::kReadRefused:
      return refuse(abi::kBegin, ENOENT, [](const Answer& answer) { return operation_of(answer) == 0; });
    case Mistake::kDirectRefusedByNotBlock:
      return refuse(abi::kBegin, ENOTBLK,
                    [](const Answer& answer) { return (operation_of(answer) & abi::kOpDirect) != 0; });
    case Mistake::kDirectRefusedInTheMiddle:
      return refuse_rests(ENOSYS);
    case Mistake::kInlineReadTooLong:
      return pad_reads();
    default:
      return in_mappings(mistake);
  }
}

}  // namespace fuse4fs::iomap_model
