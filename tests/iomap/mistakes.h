// SPDX-License-Identifier: GPL-2.0-or-later
// What a server can do wrong, one at a time: in AllocatingVolume itself, or to its answers on their way. Each
// has the one rule by whose name the model must report it.
#pragma once

#include <ostream>
#include <span>
#include <string_view>

#include "tests/iomap/breaches.h"
#include "tests/iomap/connection.h"

namespace fuse4fs::iomap_model {

enum class Mistake {
  kNone,
  // On the way.
  kOffsetMisaligned,
  kLengthMisaligned,
  kLengthZero,
  kRangeOverflows,
  kBehindLargestFile,
  kPositionNotCovered,
  kBadType,
  kBadFlags,
  kHoleWithAddress,
  kHoleWithDevice,
  kMappedWithoutDevice,
  kMappedWithoutAddress,
  kDeviceUnknown,
  kAddressOverflows,
  kAddressMisaligned,
  kBehindDevice,
  kWriteRecordEmpty,
  kPureOverwriteInRead,
  kNoCacheInReply,
  kRetryWithoutCache,
  kHoleForBufferedWrite,
  kHoleForDirectWrite,
  kHoleAtWriteback,
  kDelallocForDirectWrite,
  kDelallocAtWriteback,
  kInlineAtWriteback,
  kInlineTooLarge,
  kHoleReported,
  kHolesReportedInPieces,
  kReportsTwice,
  kLargestFileOdd,
  kShortReply,
  kLongReply,
  kInitMinorTooLow,
  kInitWritebackCache,
  kTruncatesInOpen,
  kConfigFlagsUnknown,
  kExclusiveMissing,
  kNewSizeTooSmall,
  kOtherSizeThanSet,
  kIoendUnsupported,
  kEndUnsupported,
  kWritebackRefused,
  kReadRefused,
  kDirectRefusedByNotBlock,
  kDirectRefusedInTheMiddle,
  kInlineReadTooLong,
  // In the server.
  kTwoFilesOverlap,
  kMapsFreedBlocks,
  kMapsUninitialised,
  kForgetsConversion,
  kConvertsTooFar,
  kConvertsFailedWrites,
  kMovesWithoutInvalidation,
  kTruncatesWithoutInvalidation,
  kPunchesWithoutInvalidation,
  kInvalidationMisaligned,
  kRemembersBehindDevice,
  kFreesTwice,
  kFreesShortWritesUnasked,
  kTruncateFreesTooMuch,
  kTruncateKeepsTail,
  kLongWritebackAnswers,
  kZeroRangeKeepsData,
  kPunchKeepsData,
  kSizeNotMoved,
  kTrustsAppend,
  kAllocateForgetsSize,
  kSyncWithoutFlush,
  kIoendErrorNotKept,
  kIoendRefused,
  kEndRefused,
};

struct MistakeRow {
  Mistake mistake;
  std::string_view name;
  Rule rule;  // what the model calls it
  // kWithCache: it is one of what the kernel keeps (AllocatingOptions::Remember). kInline: of files that lie
  // in their inodes.
  enum class Shows { kAlways, kWithCache, kInline } shows = Shows::kAlways;
};
inline void PrintTo(const MistakeRow& row, std::ostream* out) { *out << row.name; }
// All but kNone.
std::span<const MistakeRow> mistakes();

// What the connection does for those that are made on the way; nothing for the others.
Connection::Tampering tampering_for(Mistake mistake);

}  // namespace fuse4fs::iomap_model
