// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/iomap/breaches.h"

#include <fmt/format.h>

namespace fuse4fs::iomap_model {

std::string_view name(Rule rule) {
  switch (rule) {
    case Rule::kInitMinorTooLow:
      return "InitMinorTooLow";
    case Rule::kInitWritebackCache:
      return "InitWritebackCache";
    case Rule::kConfigRefused:
      return "ConfigRefused";
    case Rule::kInodeWithoutIomap:
      return "InodeWithoutIomap";
    case Rule::kReplySize:
      return "ReplySize";
    case Rule::kUpcallUnsupported:
      return "UpcallUnsupported";
    case Rule::kMappingType:
      return "MappingType";
    case Rule::kMappingFlags:
      return "MappingFlags";
    case Rule::kMappingLengthZero:
      return "MappingLengthZero";
    case Rule::kMappingOffsetMisaligned:
      return "MappingOffsetMisaligned";
    case Rule::kMappingLengthMisaligned:
      return "MappingLengthMisaligned";
    case Rule::kMappingOverflow:
      return "MappingOverflow";
    case Rule::kMappingBehindLargestFile:
      return "MappingBehindLargestFile";
    case Rule::kMappedWithoutDevice:
      return "MappedWithoutDevice";
    case Rule::kMappedWithoutAddress:
      return "MappedWithoutAddress";
    case Rule::kHoleWithDevice:
      return "HoleWithDevice";
    case Rule::kHoleWithAddress:
      return "HoleWithAddress";
    case Rule::kPureOverwriteInReadRecord:
      return "PureOverwriteInReadRecord";
    case Rule::kAddressOverflow:
      return "AddressOverflow";
    case Rule::kRetryWithoutCache:
      return "RetryWithoutCache";
    case Rule::kNoCacheInReply:
      return "NoCacheInReply";
    case Rule::kPositionNotCovered:
      return "PositionNotCovered";
    case Rule::kDeviceUnknown:
      return "DeviceUnknown";
    case Rule::kNotificationSize:
      return "NotificationSize";
    case Rule::kNotificationOfOtherInode:
      return "NotificationOfOtherInode";
    case Rule::kRetryInUpsert:
      return "RetryInUpsert";
    case Rule::kRetryInWriteRecord:
      return "RetryInWriteRecord";
    case Rule::kUpsertWithoutAddress:
      return "UpsertWithoutAddress";
    case Rule::kUpsertBehindDevice:
      return "UpsertBehindDevice";
    case Rule::kInvalidationMisaligned:
      return "InvalidationMisaligned";
    case Rule::kInvalidationBehindLargestFile:
      return "InvalidationBehindLargestFile";
    case Rule::kDeviceInvalidationRefused:
      return "DeviceInvalidationRefused";
    case Rule::kHoleForDirectWrite:
      return "HoleForDirectWrite";
    case Rule::kHoleForBufferedWrite:
      return "HoleForBufferedWrite";
    case Rule::kHoleForWriteback:
      return "HoleForWriteback";
    case Rule::kDelallocForDirectWrite:
      return "DelallocForDirectWrite";
    case Rule::kDelallocForWriteback:
      return "DelallocForWriteback";
    case Rule::kInlineForWriteback:
      return "InlineForWriteback";
    case Rule::kInlineTooLarge:
      return "InlineTooLarge";
    case Rule::kAtomicInPieces:
      return "AtomicInPieces";
    case Rule::kAtomicNotPromised:
      return "AtomicNotPromised";
    case Rule::kAtomicUnasked:
      return "AtomicUnasked";
    case Rule::kOverwriteOfUnwritten:
      return "OverwriteOfUnwritten";
    case Rule::kDirectRefusedUnheard:
      return "DirectRefusedUnheard";
    case Rule::kDirectRefusedLate:
      return "DirectRefusedLate";
    case Rule::kInlineReadTooLong:
      return "InlineReadTooLong";
    case Rule::kReportedTwice:
      return "ReportedTwice";
    case Rule::kReportOverflows:
      return "ReportOverflows";
    case Rule::kReportWithoutEnd:
      return "ReportWithoutEnd";
    case Rule::kRetryWithoutEnd:
      return "RetryWithoutEnd";
    case Rule::kBehindDevice:
      return "BehindDevice";
    case Rule::kAddressMisaligned:
      return "AddressMisaligned";
    case Rule::kMappedTwice:
      return "MappedTwice";
    case Rule::kMappedFreeBlocks:
      return "MappedFreeBlocks";
    case Rule::kMappedUninitialised:
      return "MappedUninitialised";
    case Rule::kConvertedTooFar:
      return "ConvertedTooFar";
    case Rule::kFailedWriteCounted:
      return "FailedWriteCounted";
    case Rule::kMappedBehindEnd:
      return "MappedBehindEnd";
    case Rule::kConversionForgotten:
      return "ConversionForgotten";
    case Rule::kCachedMappingStale:
      return "CachedMappingStale";
    case Rule::kInvalidationForgotten:
      return "InvalidationForgotten";
    case Rule::kFreedUnderIo:
      return "FreedUnderIo";
    case Rule::kFreedTwice:
      return "FreedTwice";
    case Rule::kSizeBelowIoend:
      return "SizeBelowIoend";
    case Rule::kSizeLost:
      return "SizeLost";
    case Rule::kSizeOtherThanSet:
      return "SizeOtherThanSet";
    case Rule::kNotFlushed:
      return "NotFlushed";
    case Rule::kIoendErrorForgotten:
      return "IoendErrorForgotten";
    case Rule::kBeginRefused:
      return "BeginRefused";
    case Rule::kEndRefused:
      return "EndRefused";
    case Rule::kIoendRefused:
      return "IoendRefused";
    case Rule::kHoleOverData:
      return "HoleOverData";
    case Rule::kStaleContent:
      return "StaleContent";
    case Rule::kDataLost:
      return "DataLost";
  }
  return "?";
}

void Breaches::add(Breach breach) {
  const std::lock_guard lock(mutex_);
  ++count_;
  rules_.insert(breach.rule);
  if (kept_.size() < kKept) kept_.push_back(std::move(breach));
}

bool Breaches::empty() const {
  const std::lock_guard lock(mutex_);
  return count_ == 0;
}

std::set<Rule> Breaches::rules() const {
  const std::lock_guard lock(mutex_);
  return rules_;
}

void Breaches::explain_by(std::function<std::string()> explanation) {
  const std::lock_guard lock(mutex_);
  explanation_ = std::move(explanation);
}

std::string Breaches::words() const {
  const std::lock_guard lock(mutex_);
  std::string words;
  for (const Breach& breach : kept_) words += fmt::format("{}: {}\n", name(breach.rule), breach.details);
  if (count_ > kept_.size()) words += fmt::format("and {} more\n", count_ - kept_.size());
  if (count_ > 0 && explanation_) words += explanation_();
  return words;
}

}  // namespace fuse4fs::iomap_model
