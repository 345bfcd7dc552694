// SPDX-License-Identifier: GPL-2.0-or-later
// The rules that a server of fuse-iomap must keep, by name, and what was broken.
//
// Any thread. A test fails if the list is not empty.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fuse4fs::iomap_model {

enum class Rule {
  // Of the connection.
  kInitMinorTooLow,
  kInitWritebackCache,
  kConfigRefused,
  kInodeWithoutIomap,
  kReplySize,
  kUpcallUnsupported,  // ENOSYS, which switches an upcall off for good
  // Of each mapping; the kernel refuses them.
  kMappingType,
  kMappingFlags,
  kMappingLengthZero,
  kMappingOffsetMisaligned,
  kMappingLengthMisaligned,
  kMappingOverflow,
  kMappingBehindLargestFile,
  kMappedWithoutDevice,
  kMappedWithoutAddress,
  kHoleWithDevice,
  kHoleWithAddress,
  kPureOverwriteInReadRecord,
  kAddressOverflow,
  kRetryWithoutCache,
  // Of a reply to BEGIN; the kernel refuses them.
  kNoCacheInReply,
  kPositionNotCovered,
  kDeviceUnknown,
  // Of notifications; the kernel refuses them.
  kNotificationSize,
  kNotificationOfOtherInode,
  kRetryInUpsert,
  kRetryInWriteRecord,
  kUpsertWithoutAddress,
  kUpsertBehindDevice,
  kInvalidationMisaligned,
  kInvalidationBehindLargestFile,
  kDeviceInvalidationRefused,
  // Of a mapping and what it is for. The kernel refuses some, warns of some, and loses data over some.
  kHoleForDirectWrite,
  kHoleForBufferedWrite,
  kHoleForWriteback,
  kDelallocForDirectWrite,
  kDelallocForWriteback,
  kInlineForWriteback,
  kInlineTooLarge,
  kAtomicInPieces,
  kAtomicNotPromised,     // without ATOMIC_BIO: written like any other
  kAtomicUnasked,         // with it: others fail, unless they are of one block
  kOverwriteOfUnwritten,  // OVERWRITE_ONLY answered with what is not written
  // Of errors that answer BEGIN(DIRECT). ENOTBLK: an end without one, for the kernel; write(2) comes to 0.
  kDirectRefusedUnheard,
  // ENOSYS when a part was done: the rest goes through the page cache, to where all of it should have begun.
  kDirectRefusedLate,
  // The answer to FUSE_READ is longer than the rest of the mapping, and the kernel's memory for it.
  kInlineReadTooLong,
  kRetryWithoutEnd,
  kReportedTwice,     // FIEMAP has what lies in front of the position already
  kReportOverflows,   // no number is left for what FIEMAP asks for: CONFIG's max_bytes is no whole number of
                      // blocks
  kReportWithoutEnd,  // behind the end of a file FIEMAP is answered in pieces, and goes as far as numbers do
  // What the kernel cannot see.
  kBehindDevice,
  kAddressMisaligned,
  kMappedTwice,  // one place of the device, two places of files
  kMappedFreeBlocks,
  kMappedUninitialised,  // MAPPED, where nobody has written and the device holds something
  kConvertedTooFar,      // MAPPED, where UNWRITTEN was answered and no IOEND has come
  kFailedWriteCounted,   // MAPPED or a size, for what an IOEND called failed
  kMappedBehindEnd,      // written blocks that lie wholly behind the end of the file
  kConversionForgotten,  // UNWRITTEN after IOEND
  kCachedMappingStale,
  kInvalidationForgotten,  // blocks freed that the kernel still has mappings of
  kFreedUnderIo,
  kFreedTwice,
  kSizeBelowIoend,  // newsize
  kSizeLost,        // on the disk, after fsync or an extending fallocate
  kSizeOtherThanSet,
  kNotFlushed,  // fsync answered, the device's cache not flushed
  kIoendErrorForgotten,
  kBeginRefused,  // an error without a cause
  kEndRefused,
  kIoendRefused,
  kHoleOverData,  // SEEK_HOLE, FIEMAP
  kStaleContent,  // bytes read that nobody wrote there
  kDataLost,
};

// As in the enum, without its k.
std::string_view name(Rule rule);

struct Breach {
  Rule rule;
  std::string details;
};

class Breaches {
 public:
  void add(Breach breach);
  void add(Rule rule, std::string details) { add(Breach{rule, std::move(details)}); }

  [[nodiscard]] bool empty() const;
  [[nodiscard]] std::set<Rule> rules() const;
  // A line each, the first hundred of them; and what explains them.
  [[nodiscard]] std::string words() const;
  // What words() ends with if there are any: the server's own view. Outlives this, or is replaced.
  void explain_by(std::function<std::string()> explanation);

 private:
  static constexpr std::size_t kKept = 100;
  mutable std::mutex mutex_;
  std::vector<Breach> kept_;
  std::set<Rule> rules_;
  std::size_t count_ = 0;
  std::function<std::string()> explanation_;
};

}  // namespace fuse4fs::iomap_model
