// SPDX-License-Identifier: GPL-2.0-or-later
// The engine's second public face: where file data lies on the device, for a caller that reads and writes it
// there by itself and tells what it has done (the kernel, through fuse-iomap).
//
// All offsets and lengths are bytes. Offsets and lengths of mappings are multiples of the block size. Any
// thread, beside any other request. Errors as in file_system.h; what the caller writes back from its memory
// finds no ENOSPC where map() had promised it room, if that is no more than a minute ago or it was asked for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/errno.h"
#include "base/result.h"
#include "server/ext4/file_system.h"

namespace fuse4fs::ext4 {

// What a caller wants a mapping for. It decides whether blocks are allocated.
enum class MappingPurpose {
  kRead,
  kReport,         // FIEMAP, SEEK_DATA, SEEK_HOLE
  kBufferedWrite,  // into the caller's memory: what is not there is allocated, unwritten
  kDirectWrite,    // straight to the device, likewise
  kWriteBack,      // what buffered writes left in memory; never a hole
  kZero,           // the caller makes zeros of what is written; holes and unwritten extents are zeros already
  kUnshare,
  kSwap  // the blocks must stay where they are until the caller lets go (CompletedWrite::Kind::kSwapOff)
};

// Whether holes are to be filled for it.
constexpr bool allocates(MappingPurpose purpose) {
  using enum MappingPurpose;
  return purpose == kBufferedWrite || purpose == kDirectWrite || purpose == kWriteBack || purpose == kUnshare;
}

struct MappingRequest {
  ByteRange range;
  MappingPurpose purpose = MappingPurpose::kRead;
  // kWrittenOnly: EAGAIN unless the first byte lies in written blocks (RWF_NOWAIT's overwrites).
  enum class Allowed { kAll, kWrittenOnly };
  Allowed allowed = Allowed::kAll;
  // kWhole: a direct write of one block that is to be there afterwards in whole or not at all (RWF_ATOMIC).
  // EINVAL for another range, EOPNOTSUPP of a file without extents.
  enum class Pieces { kAny, kWhole };
  Pieces pieces = Pieces::kAny;
};

// A stretch of a file. It holds the first byte that was asked for, and may begin before it; it may be shorter
// or longer than the rest.
struct DataMapping {
  enum class Kind { kHole, kWritten, kUnwritten, kInline };
  Kind kind = Kind::kHole;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t device_offset = 0;  // of kWritten and kUnwritten
  // kPending: the blocks are not yet reachable from what is on the medium.
  enum class Metadata { kStable, kPending };
  Metadata metadata = Metadata::kStable;
  // kWhole: what is written into it goes to the device in one piece (MappingRequest::Pieces). Never
  // remembered: others write as they like.
  using Pieces = MappingRequest::Pieces;
  Pieces pieces = Pieces::kAny;
  // kAlways: the caller is to report what it has written by it (complete_write()), also where it would not.
  enum class Report { kIfUnwritten, kAlways };
  Report report = Report::kIfUnwritten;
  // kRemembered: remember() has kept it, and the caller should take it from there: what is there it can see
  // change.
  enum class Place { kHere, kRemembered };
  Place place = Place::kHere;

  [[nodiscard]] bool has_blocks() const { return kind == Kind::kWritten || kind == Kind::kUnwritten; }

  friend bool operator==(const DataMapping&, const DataMapping&) = default;
};

// What came of an operation over one mapping. Not every operation is reported.
struct FinishedOperation {
  MappingPurpose purpose = MappingPurpose::kRead;
  ByteRange range;         // as was asked, within the mapping
  std::uint64_t done = 0;  // bytes of it; 0 after an error
  enum class EndOfFile { kKept, kMoved };
  EndOfFile end_of_file = EndOfFile::kKept;
};

// Data has reached the device (or has not). May be repeated. What was written to blocks that the file does
// not have is EIO.
struct CompletedWrite {
  enum class Kind { kWrite, kSwapOff };
  Kind kind = Kind::kWrite;
  ByteRange range;
  enum class Extents { kWritten, kUnwritten };
  Extents extents = Extents::kWritten;  // kUnwritten: they are to be written ones now
  enum class Way { kDirect, kWriteBack };
  Way way = Way::kWriteBack;
  std::optional<Errno> error = std::nullopt;  // the device's: nothing of the range counts as written
};

// What the caller keeps of the mappings that it was given. Called by the engine from any thread, remember()
// and forget() also with a lock that map() takes, so that what is remembered is so: neither may wait for an
// answer of the engine.
class MappingCache {
 public:
  virtual ~MappingCache() = default;
  // Before the blocks are another's. length kToEnd: to the end of the file.
  static constexpr std::uint64_t kToEnd = ~std::uint64_t{0};
  // After an error they must stay where they are.
  virtual Result<void> forget(InodeNumber inode, ByteRange range) = 0;
  // So that the caller need not ask. Whether it is kept: what is not costs a question, nothing else.
  virtual bool remember(InodeNumber inode, const DataMapping& mapping) = 0;
  // Metadata blocks that may become file data: nothing of the device's page cache may be written over them.
  // The same after an error. For who has metadata there: this engine has none
  // (server/cache/direct_backend.h), and does not ask for it.
  virtual Result<void> forget_device(ByteRange range) = 0;
};

// What a caller must know before its first question.
struct MappingLimits {
  std::array<std::uint8_t, 16> uuid{};
  std::uint64_t largest_file = 0;  // bytes; some may be shorter. What lies behind it is EFBIG
  std::uint32_t most_links = 0;
  std::int64_t earliest_time = 0, latest_time = 0;  // seconds since 1970
};

class MappingService {
 public:
  virtual ~MappingService() = default;

  [[nodiscard]] virtual MappingLimits mapping_limits() const = 0;
  // Before the first map(). `cache` outlives the service's last call.
  virtual void set_mapping_cache(MappingCache& cache) = 0;

  virtual Result<DataMapping> map(InodeNumber inode, const MappingRequest& request) = 0;
  virtual Result<void> finish(InodeNumber inode, const FinishedOperation& operation) = 0;
  // Answers the size on the disk afterwards. A failure is remembered: the next sync of the inode reports it,
  // since the kernel tells nobody.
  virtual Result<std::uint64_t> complete_write(InodeNumber inode, const CompletedWrite& write) = 0;
};

}  // namespace fuse4fs::ext4
